"""The steps of an export: each is a module of the project, run as a process of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.command import ERROR, FAILED, log
from zoo.errors import ExportError
from zoo.processes import ending, run_module

_LAST_CHARACTERS = 2000


def run_step(module: str, *options: object, made: Path | None = None) -> None:
    """Runs one of the project's modules in a separate process, so that only one at a time has a network's weights in memory.

    Args:
        module: for example "export.to_onnx".
        options: its command line.
        made: the file that it must make.

    Raises:
        ExportError: it failed; the message is the module's own.
    """
    done = run_module(module, *options, capture_output=True)
    _, error, message = f"\n{done.stderr}".rpartition(f"\n{ERROR}")
    if done.returncode == FAILED and error:
        raise ExportError(message.strip())
    if done.returncode:
        said = (done.stdout + done.stderr)[-_LAST_CHARACTERS:].strip()
        raise ExportError(f"{module} failed ({ending(done.returncode)}):\n{said}")
    if made and not made.exists():
        raise ExportError(f"{module} ended without an error and did not write {made}. Please report this.")


@contextmanager
def step(what: str) -> Iterator[None]:
    """Logs what begins, and the seconds that it took."""
    start = time.perf_counter()
    log(f"… {what}")
    yield
    log(f"  {time.perf_counter() - start:.1f} s")
