"""Makes environments with a real TensorFlow of another version: 2.2.0, which the contest's scorer runs, or any other.

Examples:
    python -m export.tf22.environment                # .venv-tf22: Python 3.8 with TensorFlow 2.2.0; the same as `make tf22`
    python -m export.tf22.environment --tf 2.13      # .venvs-tf/2.13.0

Does nothing if the environment is complete. uv makes it if it is installed, otherwise venv and pip do. In a checkout the environments
are at the root; an installed package keeps them in the user's cache folder; $LANDMARK_ZOO_TENSORFLOWS names another folder for all
but 2.2.0. Python 3.8 is taken from $LANDMARK_ZOO_PYTHON38, PATH, pyenv or uv, in this order; other Pythons likewise.
"""

import argparse
import os
import subprocess
from pathlib import Path

from export.tensorflows import TENSORFLOW, add_tf_option, full_version, python_for, requirements
from zoo.command import log, run
from zoo.environments import environment_folder, environment_python, is_stamped, make_environment, write_stamp
from zoo.errors import MissingToolError

ENVIRONMENT = environment_folder(".venv-tf22")
FOLDER_VARIABLE = "LANDMARK_ZOO_TENSORFLOWS"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
STAMP = "landmark-zoo-tf22.json"
_IMPORTS_ALL = "import numpy, PIL.Image, tensorflow; print(tensorflow.__version__)"


def folder_of(version: str = TENSORFLOW) -> Path:
    """Where the environment of a version belongs; it may not exist.

    Args:
        version: such as "2.13.0".
    """
    if version == TENSORFLOW:
        return ENVIRONMENT
    return Path(os.environ.get(FOLDER_VARIABLE) or environment_folder(".venvs-tf")) / version


def command_for(version: str = TENSORFLOW) -> str:
    """The command that makes the environment of a version."""
    return "make tf22" if version == TENSORFLOW else f"python -m export.tf22.environment --tf {version}"


def make(version: str = TENSORFLOW, environment: Path | None = None) -> Path:
    """Makes the environment unless it is complete.

    Args:
        version: of TensorFlow, such as "2.13.0".
        environment: the folder of the virtual environment; by default `folder_of(version)`.

    Returns:
        The path of its python.

    Raises:
        MissingToolError: there is no Python for it, or the TensorFlow could not be installed or imported.
    """
    environment = environment or folder_of(version)
    if is_complete(version, environment):
        log(f"{environment} is complete")
        return environment_python(environment)
    (environment / STAMP).unlink(missing_ok=True)
    log(f"installing TensorFlow {version} (about {'800 MB' if version == TENSORFLOW else '1 GB'} on disk)")
    try:
        python = make_environment(environment, python_for(version), _installed(version))
    except MissingToolError as error:
        raise MissingToolError(
            f"{error} TensorFlow {TENSORFLOW} has wheels for Linux and macOS on x86-64 only. The command is "
            f"`{command_for(version)}`."
        ) from error
    if (found := _tensorflow_version(python)) != version:
        raise MissingToolError(
            f"{python}: expected TensorFlow {version} after the installation, found {found or 'an import error'}. "
            f"Delete {environment} and run `{command_for(version)}` again."
        )
    write_stamp(environment / STAMP, _pins(version))
    return python


def is_complete(version: str = TENSORFLOW, environment: Path | None = None) -> bool:
    """True if the stamp is there, was written for the current pins, and the TensorFlow imports (takes about 3 s)."""
    environment = environment or folder_of(version)
    stamped = is_stamped(environment / STAMP, _pins(version))
    return stamped and _tensorflow_version(environment_python(environment)) == version


def _installed(version: str) -> list[str | Path]:
    """Arguments of `pip install`. Only the contest's version has everything pinned: Python 3.8 gets no newer packages."""
    return ["-r", CONSTRAINTS] if version == TENSORFLOW else [*requirements(version), "pillow"]


def _pins(version: str) -> Path | str:
    return CONSTRAINTS if version == TENSORFLOW else " ".join(map(str, _installed(version)))


def _tensorflow_version(python: Path) -> str | None:
    """The version of TensorFlow that `python` imports, or None."""
    try:
        done = subprocess.run([python, "-I", "-c", _IMPORTS_ALL], capture_output=True, encoding="utf-8")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def main() -> None:
    """Makes the environment and prints the path of its python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_tf_option(parser)
    print(make(full_version(parser.parse_args().tf)))


if __name__ == "__main__":
    run(main)
