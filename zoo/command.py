"""Shared by all command lines: errors, exit statuses and progress messages."""

import signal
import sys
from collections.abc import Callable

from zoo.errors import ZooError

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C."""

FAILED = 2
"""Exit status after a `ZooError`."""


def run(main: Callable[[], None]) -> None:
    """Runs `main`; exits with status 2 and a one-line error for a `ZooError`, with 130 for Ctrl-C.

    Any other exception is a bug and keeps its traceback.
    """
    try:
        main()
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print(
            "interrupted; nothing that existed is damaged. Run the same command again: training, embedding and the pipeline "
            "continue where they stopped, other commands begin anew",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)


def log(message: str) -> None:
    """Prints a line of progress to stderr; stdout is reserved for the path that a command prints last."""
    print(message, file=sys.stderr, flush=True)
