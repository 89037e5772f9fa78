"""Runs the project's own modules as child processes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
"""The folder that the packages lie in: the checkout, or site-packages."""


def run_module(module: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module arguments…` in the caller's working directory and waits for it.

    Args:
        module: a module of the project, for example "export.check".
        arguments: its command line; each is converted to text.
        options: of `subprocess.run`. Output is text; it is captured with `capture_output=True`.

    Returns:
        The finished process; its `returncode` is not checked.
    """
    options = {"text": True, "check": False, "env": module_environment()} | options
    return subprocess.run(module_command(module, *arguments), **options)


def module_command(module: str, *arguments: object) -> list[str]:
    """The command line of `python -m module arguments…` with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def module_environment() -> dict[str, str]:
    """Environment variables under which a child finds the project's packages from any working directory.

    The child keeps the caller's working directory, so a relative path means the same to both.
    """
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])}
