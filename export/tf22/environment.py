"""Makes `.venv-tf22`: Python 3.8 with a real TensorFlow 2.2.0, the version that the contest's scorer runs.

A virtual environment cannot be renamed once made (its scripts hold its path), so it is made in place and a stamp file
is written last: an environment without its stamp is half-made, and the next run repairs it.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from zoo.command import log, run
from zoo.errors import MissingToolError
from zoo.files import write_json

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-tf22"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
STAMP = "landmark-zoo-tf22.json"
TENSORFLOW = "2.2.0"
REQUIREMENTS = ("tensorflow-cpu", "protobuf", "numpy", "pillow")
"""What the worker imports, and protobuf, whose newest version breaks TensorFlow 2.2. CONSTRAINTS pins them."""

PYTHON38_VARIABLE = "LANDMARK_ZOO_PYTHON38"
_CAN_MAKE_VENV = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
"""Debian ships `venv` without `ensurepip`, and then `python -m venv` fails half-way: so both are asked for."""
_IMPORTS_ALL = "import numpy, PIL.Image, tensorflow; print(tensorflow.__version__)"


def make(environment: Path = ENVIRONMENT) -> Path:
    """Makes the environment, repairs it, or leaves it as it is when it is whole.

    Args:
        environment: the folder of the virtual environment.

    Returns:
        The path of its python.

    Raises:
        MissingToolError: there is no usable Python 3.8, or pip could not install TensorFlow 2.2.0.
    """
    python = environment_python(environment)
    if is_complete(environment):
        log(f"{environment} is complete")
        return python
    (environment / STAMP).unlink(missing_ok=True)
    if _answer([python, "-I", "-c", _CAN_MAKE_VENV]) != "3.8":
        base = find_python38()
        log(f"making {environment} with {base}")
        # --clear: what a broken attempt left there would otherwise be mixed with the new environment.
        _run_logged([base, "-I", "-m", "venv", "--clear", environment], "the virtual environment could not be made")
    log(f"installing TensorFlow {TENSORFLOW} (about 800 MB on disk)")
    pip = [python, "-I", "-m", "pip", "install", "--constraint", CONSTRAINTS, "--prefer-binary", *REQUIREMENTS]
    _run_logged(pip, "pip could not install what export/tf22/constraints.txt pins")
    found = _answer([python, "-I", "-c", _IMPORTS_ALL])
    if found != TENSORFLOW:
        raise MissingToolError(
            f"{python}: expected TensorFlow {TENSORFLOW} after the installation, found {found or 'an import error'}. "
            f"Delete {environment} and run `make tf22` again."
        )
    write_json(environment / STAMP, {"tensorflow": TENSORFLOW, "constraints_sha256": _constraints_hash()})
    return python


def environment_python(environment: Path = ENVIRONMENT) -> Path:
    """Path of the python in `environment`, whether it exists or not."""
    return environment / "bin" / "python"


def is_complete(environment: Path = ENVIRONMENT) -> bool:
    """True when the stamp is there, was written for today's constraints, and TensorFlow 2.2.0 imports (about 3 s)."""
    stamp = environment / STAMP
    if not stamp.is_file() or _constraints_hash() not in stamp.read_text(encoding="utf-8"):
        return False
    return _answer([environment_python(environment), "-I", "-c", _IMPORTS_ALL]) == TENSORFLOW


def find_python38() -> Path:
    """The first Python 3.8 that runs and can make a virtual environment.

    Raises:
        MissingToolError: there is none; the message says how to get one.
    """
    tried = []
    for candidate in _candidates():
        # A pyenv shim called python3.8 exists on PATH even where pyenv refuses to run it: only running it tells.
        if _answer([candidate, "-I", "-c", _CAN_MAKE_VENV]) == "3.8":
            return candidate
        tried.append(str(candidate))
    raise MissingToolError(
        "Python 3.8 with venv and ensurepip was expected (TensorFlow 2.2.0 has no wheels for a newer one); "
        f"found none that runs (tried: {', '.join(tried) or 'nothing, no candidate was found'}). "
        "Install it with `uv python install 3.8`, `pyenv install 3.8` or `apt install python3.8-venv`, "
        f"or set {PYTHON38_VARIABLE} to its path; then run `make tf22` again."
    )


def _candidates() -> Iterator[Path]:
    """Places of a Python 3.8, the most explicit first. Lazy: uv downloads one only when everything else has failed."""
    if chosen := os.environ.get(PYTHON38_VARIABLE):
        yield Path(chosen)
    for folder in os.get_exec_path():
        if shutil.which("python3.8", path=folder or os.curdir):
            yield Path(folder or os.curdir, "python3.8").absolute()
    roots = [Path(root) for root in (_answer(["pyenv", "root"]),) if root] + [Path.home() / ".pyenv"]
    for root in dict.fromkeys(roots):
        yield from sorted((root / "versions").glob("3.8*/bin/python"), key=_version, reverse=True)
    if shutil.which("uv"):
        if found := _answer(["uv", "python", "find", "3.8"]):
            yield Path(found)
        log("no Python 3.8 found here; asking uv to download one")
        installed = subprocess.run(["uv", "python", "install", "3.8"], stdout=sys.stderr).returncode == 0
        if installed and (found := _answer(["uv", "python", "find", "3.8"])):
            yield Path(found)


def _version(python: Path) -> tuple[int, ...]:
    """Sort key of `…/versions/3.8.18/bin/python`: (3, 8, 18), so that 3.8.18 is newer than 3.8.6."""
    return tuple(int(number) for number in re.findall(r"\d+", python.parents[1].name))


def _answer(command: list[str | Path]) -> str | None:
    """The last line that `command` prints, or None where it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    lines = done.stdout.split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), None) if done.returncode == 0 else None


def _run_logged(command: list[str | Path], failure: str) -> None:
    """Runs `command` with its output on stderr.

    Raises:
        MissingToolError: it fails; its own message stands above ours.
    """
    status = subprocess.run(command, stdout=sys.stderr).returncode
    if status != 0:
        raise MissingToolError(
            f"{failure} (exit status {status}; its message is above). TensorFlow {TENSORFLOW} has wheels for Linux and "
            "macOS on x86-64 only. Check the network and the free disk space, then run `make tf22` again."
        )


def _constraints_hash() -> str:
    return hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()


def main() -> None:
    """Makes the environment and prints the path of its python."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="python -m export.tf22.environment\n\n"
        f"Makes {ENVIRONMENT.name}/ at the repository's root: Python 3.8 with TensorFlow {TENSORFLOW}, in which every\n"
        "SavedModel is checked before it goes to the contest. Does nothing where it is already there, and repairs a\n"
        f"half-made one. Python 3.8 is taken from ${PYTHON38_VARIABLE}, PATH, pyenv or uv, in this order.",
    )
    parser.parse_args()
    print(make())


if __name__ == "__main__":
    run(main)
