"""Children that take signals as a shell's foreground command does, however the tests themselves were started."""

import signal


def default_signals() -> None:
    """For `preexec_fn`: a test run in the background, or under nohup, passes on that SIGINT and SIGHUP are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
