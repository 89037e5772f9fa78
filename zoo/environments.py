"""Makes virtual environments for packages that conflict with the project's own, such as TensorFlow 2.2.0.

uv makes them if it is installed and its index is reachable; otherwise `venv` and pip do. A virtual environment cannot be
renamed (its scripts contain its path), so it is made in place and a stamp file is written last: an environment
without a stamp is incomplete, and the next run makes it again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import platformdirs

from zoo.command import log
from zoo.errors import MissingToolError
from zoo.files import write_json

_ROOT = Path(__file__).resolve().parents[1]
_CAN_MAKE_VENV = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
"""Debian packages `venv` without `ensurepip`, and then `python -m venv` fails half-way; so both are imported."""


def environment_folder(name: str) -> Path:
    """Where the environment `name` belongs: the root of a checkout, or the user's cache for an installed package.

    Args:
        name: folder name in a checkout, such as ".venv-tf22"; the cache uses it without the leading dot.
    """
    if (_ROOT / "pyproject.toml").is_file():
        return _ROOT / name
    return platformdirs.user_cache_path("landmark-zoo") / name.lstrip(".")


def environment_python(folder: Path) -> Path:
    """Path of the python in the environment `folder`; it may not exist."""
    return folder / "bin" / "python"


def write_stamp(stamp: Path, pins: Path | str) -> None:
    """Records that the environment around `stamp` is complete and was made from `pins`, a file or the requirements themselves."""
    write_json(stamp, {"pins": pins if isinstance(pins, str) else pins.name, "constraints_sha256": _sha256(pins)})


def is_stamped(stamp: Path, pins: Path | str) -> bool:
    """True if `stamp` exists and was written for the current content of `pins`."""
    return stamp.is_file() and _sha256(pins) in stamp.read_text(encoding="utf-8")


def make_environment(
    folder: Path, version: str, requirements: Sequence[str | Path], first: Sequence[str] = (), first_index: str = ""
) -> Path:
    """Makes a virtual environment, replacing what `folder` contains, and installs packages into it.

    Args:
        folder: of the environment.
        version: of Python, such as "3.8".
        requirements: arguments of `pip install`, such as ["-r", "pins.txt"] or ["tensorflow-cpu==2.4.0"].
        first: pinned packages to install before the others from `first_index`, such as the CPU build of torch. If that
            index is unreachable, pip installs them from its default index.
        first_index: address of the package index for `first`.

    Returns:
        The path of its python.

    Raises:
        MissingToolError: no Python of that version, or neither uv nor pip could install the packages.
    """
    base = find_python(version)
    if uv := find_uv():
        log(f"making {folder} with uv and Python {base or version}")
        if _make_with_uv(uv, folder, base or version, requirements, first, first_index):
            return environment_python(folder)
        log("uv could not make it (its message is above); trying venv and pip")
    if base is None:
        raise MissingToolError(
            f"Python {version} with venv and ensurepip was expected; found none in ${python_variable(version)}, on PATH, "
            f"in pyenv or through uv. Install it with `uv python install {version}`, `pyenv install {version}` or "
            f"`apt install python{version}-venv`, or set {python_variable(version)} to its path; then run the command again."
        )
    log(f"making {folder} with venv and pip of {base}")
    _make_with_pip(base, folder, requirements, first, first_index)
    return environment_python(folder)


def find_uv() -> str | None:
    """uv beside this python or on PATH, or None."""
    return shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


def python_variable(version: str) -> str:
    """Name of the environment variable that chooses the Python `version`: LANDMARK_ZOO_PYTHON38 for "3.8"."""
    return "LANDMARK_ZOO_PYTHON" + version.replace(".", "")


def find_python(version: str) -> Path | None:
    """The first Python `version` that runs and can make a virtual environment, or None.

    Candidates are the variable `python_variable(version)`, this python, PATH and pyenv's versions, in this order.
    """
    for candidate in _candidates(version):
        # A pyenv shim called python3.8 exists on PATH even if pyenv refuses to run it; only running it shows that.
        if _answer([candidate, "-I", "-c", _CAN_MAKE_VENV]) == version:
            return candidate
    return None


def _candidates(version: str) -> Iterator[Path]:
    if chosen := os.environ.get(python_variable(version)):
        yield Path(chosen)
    yield Path(sys.executable)
    for folder in os.get_exec_path():
        yield Path(folder or os.curdir, f"python{version}").absolute()
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted((pyenv / "versions").glob(f"{version}.*/bin/python"), key=_patch_version, reverse=True)


def _patch_version(python: Path) -> int:
    """18 for `…/versions/3.8.18/bin/python`; -1 if the last part is not a number, as in `3.8.18-debug`."""
    last = python.parents[1].name.rpartition(".")[2]
    return int(last) if last.isdecimal() else -1


def _make_with_uv(
    uv: str, folder: Path, base: Path | str, requirements: Iterable[str | Path], first: Sequence[str], first_index: str
) -> bool:
    """True if everything was installed. Packages that only pip's own configuration finds make it fail."""
    install = [uv, "pip", "install", "--quiet", "--python", environment_python(folder)]
    commands: list[list[str | Path]] = [[uv, "venv", "--quiet", "--clear", "--no-project", "--python", base, folder]]
    if first:
        commands.append([*install, "--no-deps", "--index-url", first_index, *first])
    commands += [[*install, *requirements], [uv, "pip", "check", "--python", environment_python(folder)]]
    return all(_succeeds(command) for command in commands)


def _make_with_pip(
    base: Path, folder: Path, requirements: Iterable[str | Path], first: Sequence[str], first_index: str
) -> None:
    _require([base, "-I", "-m", "venv", "--clear", folder])
    pip = [environment_python(folder), "-I", "-m", "pip"]
    install = [*pip, "install", "--quiet", "--prefer-binary"]
    if first and not _succeeds([*install, "--retries", "0", "--no-deps", "--index-url", first_index, *first]):
        _require([*install, "--no-deps", *first])
    _require([*install, *requirements])
    _require([*pip, "check"])


def _succeeds(command: Sequence[str | Path]) -> bool:
    """Runs `command` with its output on stderr."""
    # uv and pip would otherwise act on the environment of the caller, or report a conflict with it.
    variables = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return subprocess.run(command, stdout=sys.stderr, env=variables).returncode == 0


def _require(command: Sequence[str | Path]) -> None:
    if not _succeeds(command):
        raise MissingToolError(
            f"{' '.join(map(str, command))} failed; its message is above. Check the network and the free disk space, then "
            "run the command again."
        )


def _answer(command: Sequence[str | Path]) -> str | None:
    """The last line that `command` prints, or None if it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    except OSError:
        return None
    lines = done.stdout.split()
    return lines[-1] if lines and done.returncode == 0 else None


def _sha256(pins: Path | str) -> str:
    return hashlib.sha256(pins.encode() if isinstance(pins, str) else pins.read_bytes()).hexdigest()
