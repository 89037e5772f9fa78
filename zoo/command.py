"""Shared by all command lines: errors, exit statuses and progress messages."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from zoo.disk import FULL, ROOM
from zoo.errors import ZooError
from zoo.processes import end_with_parent

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C."""

FAILED = 2
"""Exit status after a `ZooError`."""
ERROR = "error: "
"""What the line of a `ZooError` begins with."""
_PIPE_CLOSED = 128 + signal.SIGPIPE
_REPEAT_SECONDS = 5.0
"""A second signal within this time is ignored: the first one's cleaning up goes on."""


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command."""


class Interrupted(KeyboardInterrupt):
    """SIGTERM, SIGHUP or Ctrl-C; handled like Python's own, so that temporary files are removed and children end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def _raise_on_signals() -> None:
    """Makes SIGTERM, SIGHUP and SIGINT raise `Interrupted`, except those that the caller ignores, as nohup does."""
    first: list[float] = []

    def catch(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not first or now - first[0] > _REPEAT_SECONDS:
            first[:] = [now]
            raise Interrupted(number)

    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, catch)


def _open_streams() -> None:
    """Opens the standard streams that the caller has closed, as a daemon does: the next file to be opened would take their
    numbers, and what a library prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)


def run(main: Callable[[], None]) -> None:
    """Runs `main`; exits with status 2 and a one-line error for a `ZooError`, with 130 for Ctrl-C, 143 for SIGTERM and 129
    for SIGHUP.

    An error of the system about a file is reported in the same way. Any other exception is a bug and keeps its traceback.
    """
    _open_streams()
    end_with_parent()
    _raise_on_signals()
    for stream in (sys.stdout, sys.stderr):  # a file's name may be no text in this locale
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except ZooError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(
            f"there is not enough memory ({str(error) or 'an allocation failed'}). Close other programs, or take smaller batches."
        )
    except BrokenPipeError:  # `… | head` has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)
    except OSError as error:
        if error.errno in FULL:  # of a library that does not say where it wrote
            _fail(f"a file could not be written: {error.strerror}. {ROOM}, then run the same command again.")
        if error.filename is None:
            raise
        _fail(
            f"{os.fsdecode(error.filename)}: {error.strerror}. Correct the path, or the permissions of what is there."
        )
    except KeyboardInterrupt as error:
        print(
            "interrupted; nothing that existed is damaged. Run the same command again: training, embedding and the pipeline "
            "continue where they stopped, other commands begin anew",
            file=sys.stderr,
        )
        sys.exit(error.status if isinstance(error, Interrupted) else INTERRUPTED)


def _fail(message: str) -> None:
    print(f"{ERROR}{message}", file=sys.stderr)
    sys.exit(FAILED)


def log(message: str) -> None:
    """Prints a line of progress to stderr; stdout is reserved for the path that a command prints last."""
    print(message, file=sys.stderr, flush=True)
