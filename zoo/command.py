"""Shared by all command lines: errors, exit statuses and progress messages."""

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

from zoo.errors import ZooError

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C."""

FAILED = 2
"""Exit status after a `ZooError`."""


_REPEAT_SECONDS = 5.0
"""A second signal within this time is ignored: the first one's cleaning up goes on."""


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

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, catch)


def run(main: Callable[[], None]) -> None:
    """Runs `main`; exits with status 2 and a one-line error for a `ZooError`, with 130 for Ctrl-C, 143 for SIGTERM and 129
    for SIGHUP.

    Any other exception is a bug and keeps its traceback.
    """
    _raise_on_signals()
    try:
        main()
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt as error:
        print(
            "interrupted; nothing that existed is damaged. Run the same command again: training, embedding and the pipeline "
            "continue where they stopped, other commands begin anew",
            file=sys.stderr,
        )
        sys.exit(error.status if isinstance(error, Interrupted) else INTERRUPTED)


def log(message: str) -> None:
    """Prints a line of progress to stderr; stdout is reserved for the path that a command prints last."""
    print(message, file=sys.stderr, flush=True)
