"""`python -m export.writer`."""

from export.writer.convert import main
from zoo.command import run

if __name__ == "__main__":
    run(main)
