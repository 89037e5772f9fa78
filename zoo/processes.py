"""Runs the project's own modules as child processes."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The folder that the packages lie in: the checkout, or site-packages."""


def module_command(module: str, *arguments: object) -> list[str]:
    """The command line of `python -m module arguments…` with this python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def module_environment() -> dict[str, str]:
    """Variables under which a child finds the project's packages from any working directory.

    The child keeps the caller's working directory, so a relative path means the same in both.
    """
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])}
