"""How every command line of the project ends: a clear error and a status, or a path on stdout."""

import signal
import sys
from collections.abc import Callable

from zoo.errors import ZooError

INTERRUPTED = 128 + signal.SIGINT
FAILED = 2


def run(main: Callable[[], None]) -> None:
    """Runs `main` and exits: 0 when it returns, 2 with a one-line error for a `ZooError`, 130 for Ctrl-C.

    Any other exception is a defect of ours and keeps its traceback.
    """
    try:
        main()
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("interrupted: nothing already written was lost; run the same command again to go on", file=sys.stderr)
        sys.exit(INTERRUPTED)


def log(message: str) -> None:
    """One line of progress on stderr; stdout is kept for the path that a command writes last."""
    print(message, file=sys.stderr, flush=True)
