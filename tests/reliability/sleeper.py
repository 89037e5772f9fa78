"""A module that does nothing for a minute, to be ended by what it is a child of."""

import os
import time
from pathlib import Path

from zoo.command import run


def main() -> None:
    """Says that it is alive, and waits."""
    Path(os.environ["SLEEPER_MARK"]).touch()
    time.sleep(60)


if __name__ == "__main__":
    run(main)
