"""Runs a pipeline's steps as processes: in parallel, skipped if finished, with their time and memory measured."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from pipeline.run_folder import Cost, read_cost, write_cost
from zoo.command import INTERRUPTED, log
from zoo.errors import ZooError
from zoo.processes import end, ending, module_command, module_environment

_SAMPLE_SECONDS = 0.5
Command = Sequence[object]
"""A module of the project and its options."""


class StepError(ZooError):
    """A step's process failed; its own error was printed before."""


class Steps:
    """The steps of one run. Their seconds are stored in `folder`, so a resumed run reports all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = read_cost(folder)
        self.seconds: dict[str, float] = kept.seconds
        self.peak_rss_mib: float = kept.peak_rss_mib
        self._done = threading.Event()
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> Self:
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._sampler.join()

    def run(self, name: str, commands: Sequence[Command], made: Sequence[Path], at_once: int = 1) -> None:
        """Runs the commands whose output does not exist yet.

        Args:
            name: of the step.
            commands: each a module and its options.
            made: what each command makes, atomically.
            at_once: how many run in parallel; they share the cores evenly.

        Raises:
            StepError: a command failed; the others were ended.
            KeyboardInterrupt: Ctrl-C; every process received it too and saved its state.
        """
        waiting = [command for command, path in zip(commands, made, strict=True) if not path.exists()]
        if not waiting:
            log(f"== {name}: already finished")
            return
        log(f"== {name}")
        start = time.perf_counter()
        # As in an unbroken run: the number of threads decides the order of a sum, and so its last digit.
        at_once = min(at_once, len(commands))
        environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))} | module_environment()
        environment |= {"TQDM_MININTERVAL": "1"}
        with ThreadPoolExecutor(at_once) as pool:
            try:
                # Each parallel progress bar gets its own line.
                places = [environment | {"TQDM_POSITION": str(number % at_once)} for number in range(len(waiting))]
                statuses = pool.map(self._process, waiting, places)
                for status, command in zip(statuses, waiting, strict=True):
                    if status == INTERRUPTED:
                        raise KeyboardInterrupt
                    if status:
                        raise StepError(
                            f"`python -m {' '.join(map(str, command))}` failed ({ending(status)}); its error was printed above"
                        )
            except BaseException:
                self._stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 1)
        log(f"   {name}: {self.seconds[name]} s")
        write_cost(self.folder, Cost(self.seconds, self.peak_rss_mib))

    def _process(self, command: Command, environment: dict[str, str]) -> int:
        if self._done.is_set():
            return INTERRUPTED
        process = subprocess.Popen(module_command(*map(str, command)), env=environment, stdout=subprocess.DEVNULL)
        self._processes.append(process)
        return process.wait()

    def _stop(self) -> None:
        """Asks every running step to save its state and end."""
        self._done.set()
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            end(process)

    def _sample(self) -> None:
        own = psutil.Process()
        while not self._done.wait(_SAMPLE_SECONDS):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:  # it ended in the meantime
                    continue
            self.peak_rss_mib = max(self.peak_rss_mib, round(total / 2**20, 1))
