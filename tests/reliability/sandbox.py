"""Runs a reader in a process of its own and says how it ended, however that was."""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.reliability.reader import Files, load, write

SECONDS = 20
"""The longest that a reader may take."""
BEYOND = 1 << 30
"""Bytes of memory that a reader may take beyond the size of its input."""
_EXECUTES = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "webbrowser.open"),
    "pickle.find_class",
}
"""Audit events (https://docs.python.org/3/library/audit_events.html) that no reader may raise."""


@dataclass(frozen=True)
class Outcome:
    """How reading one input ended.

    Attributes:
        kind: "accepted", "refused" (a `ZooError`) or "fault" (anything else).
        text: the error's message, or a description of the fault.
        seconds: how long it took.
        beyond: bytes of memory at the peak, beyond what the process had before and the size of the input.
    """

    kind: str
    text: str
    seconds: float
    beyond: int


class Sandbox:
    """A process that reads one input after another; it is replaced if an input ends it or makes it large."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = load(name).place
        self._folder = tempfile.TemporaryDirectory(prefix="landmark zoo ")
        self._process: multiprocessing.Process | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        self._folder.cleanup()

    def read(self, files: Files) -> Outcome:
        """Writes the input to a new folder and has the process read it."""
        if self._process is None:
            self._start()
        self._count += 1
        with tempfile.TemporaryDirectory(dir=self._folder.name, ignore_cleanup_errors=True) as folder:
            path = Path(folder, self.place)
            size = write(files, path)
            self._own.send(str(path))
            start = time.monotonic()
            try:
                kind, text, peak = self._own.recv() if self._own.poll(SECONDS) else ("fault", f"over {SECONDS} s", None)
            except (EOFError, ConnectionResetError):
                self._process.join()
                kind, text, peak = "fault", f"the process died: {_ending(self._process.exitcode)}", None
            seconds = time.monotonic() - start
        beyond = 0 if peak is None else max(0, peak - size)
        if beyond > BEYOND:
            kind, text = "fault", f"{beyond / 2**20:.0f} MiB of memory for an input of {size:,} bytes"
        if peak is None or beyond > BEYOND >> 2:
            self._end()
        return Outcome(kind, text, seconds, beyond)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._own, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._own.recv()  # it has imported what it needs

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._own.close()
            self._process = None


def _ending(status: int | None) -> str:
    return signal.Signals(-status).name if status is not None and status < 0 else f"status {status}"


def _serve(name: str, connection: Connection) -> None:
    """The process: reads each path that it is sent."""
    from zoo.errors import ZooError

    reader = load(name)
    executed: list[str] = []
    sys.addaudithook(
        lambda event, arguments: executed.append(f"{event} {arguments!r:.200}") if event in _EXECUTES else None
    )
    nowhere = os.open(os.devnull, os.O_WRONLY)  # libraries complain on stdout and stderr
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    connection.send("ready")
    while True:
        try:
            path = Path(connection.recv())
        except EOFError:
            return
        executed.clear()
        before = _reset_peak()
        try:
            reader.read(path)
            kind, text = "accepted", ""
        except ZooError as error:
            kind, text = "refused", str(error)
        except BaseException:
            kind, text = "fault", traceback.format_exc(limit=-6)
        if executed:
            kind, text = "fault", "executed or fetched: " + "; ".join(executed[:3])
        connection.send((kind, text, _memory("VmHWM") - before))


def _reset_peak() -> int:
    """Sets the process's peak memory to what it has now; returns that."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        [line] = [line for line in file if line.startswith(f"{key}:")]
    return int(line.split()[1]) * 1024
