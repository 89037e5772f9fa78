"""Runs programs as child processes that never outlive the command that started them."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The folder that the packages lie in: the checkout, or site-packages."""
PARENT = "LANDMARK_ZOO_PARENT"
"""Environment variable with the process id of the command that a child belongs to."""
GRACE_SECONDS = 20
"""How long a child may take to save its state and remove its files before it is killed."""
_PR_SET_PDEATHSIG = 1


def run_module(
    module: str, *arguments: object, capture_output: bool = False, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module arguments…` in the caller's working directory and waits for it.

    Args:
        module: a module of the project, for example "export.check".
        arguments: its command line; each is converted to text.
        capture_output: keep stdout and stderr, instead of passing them on.
        env: environment variables; by default `module_environment()`.

    Returns:
        The finished process; its `returncode` is not checked.
    """
    command = module_command(module, *arguments)
    return run_command(command, capture_output=capture_output, env=env or module_environment())


def run_command(
    command: Sequence[str], *, capture_output: bool = False, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with text in UTF-8, which ends the child in good order if this process is interrupted."""
    pipe = subprocess.PIPE if capture_output else None
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=env, text=True, encoding="utf-8", errors="replace")
    with ended_with(child) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@contextmanager
def ended_with(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Yields a child. If the body ends with an exception, such as Ctrl-C, the child is asked to end, and then made to."""
    try:
        yield process
    except BaseException:
        end(process)
        raise


def end(process: subprocess.Popen) -> None:
    """Asks a child to end, and kills it if it takes longer than `GRACE_SECONDS`."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def one_process() -> Iterator[ProcessPoolExecutor]:
    """An executor with one new process, which ends with this one and if the body ends with an exception."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, spawn, initializer=_belong_to, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def ending(status: int) -> str:
    """How a process ended, by its exit status: "status 2", or the signal that ended it."""
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number == signal.SIGKILL:
        return "SIGKILL: it was killed, perhaps because memory ran out"
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"status {status}"


def module_command(module: str, *arguments: object) -> list[str]:
    """The command line of `python -m module arguments…` with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def module_environment() -> dict[str, str]:
    """Environment variables under which a child finds the project's packages from any working directory, and its parent.

    The child keeps the caller's working directory, so a relative path means the same to both.
    """
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    return os.environ | {"PYTHONPATH": path, PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Has the system end this process when the command that started it dies, even by SIGKILL. Only Linux can."""
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        _belong_to(int(parent))


def _belong_to(parent: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os.kill(os.getpid(), signal.SIGTERM)
