"""Makes `.venv-tf22`: Python 3.8 with a real TensorFlow 2.2.0, the version that the contest's scorer runs.

Example:
    python -m export.tf22.environment

Does nothing if the environment is complete. uv makes it if it is installed, otherwise venv and pip do. In a checkout it is at the
root; an installed package keeps it in the user's cache folder. Python 3.8 is taken from $LANDMARK_ZOO_PYTHON38, PATH,
pyenv or uv, in this order.
"""

import argparse
import subprocess
from pathlib import Path

from zoo.command import log, run
from zoo.environments import environment_folder, environment_python, is_stamped, make_environment, write_stamp
from zoo.errors import MissingToolError

ENVIRONMENT = environment_folder(".venv-tf22")
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
STAMP = "landmark-zoo-tf22.json"
PYTHON = "3.8"
TENSORFLOW = "2.2.0"
_IMPORTS_ALL = "import numpy, PIL.Image, tensorflow; print(tensorflow.__version__)"


def make(environment: Path = ENVIRONMENT) -> Path:
    """Makes the environment unless it is complete.

    Args:
        environment: the folder of the virtual environment.

    Returns:
        The path of its python.

    Raises:
        MissingToolError: there is no usable Python 3.8, or TensorFlow 2.2.0 could not be installed or imported.
    """
    if is_complete(environment):
        log(f"{environment} is complete")
        return environment_python(environment)
    (environment / STAMP).unlink(missing_ok=True)
    log(f"installing TensorFlow {TENSORFLOW} (about 800 MB on disk)")
    try:
        python = make_environment(environment, PYTHON, ["-r", CONSTRAINTS])
    except MissingToolError as error:
        raise MissingToolError(
            f"{error} TensorFlow {TENSORFLOW} has wheels for Linux and macOS on x86-64 only. The command is `make tf22`."
        ) from error
    if (found := _tensorflow_version(python)) != TENSORFLOW:
        raise MissingToolError(
            f"{python}: expected TensorFlow {TENSORFLOW} after the installation, found {found or 'an import error'}. "
            f"Delete {environment} and run `make tf22` again."
        )
    write_stamp(environment / STAMP, CONSTRAINTS)
    return python


def is_complete(environment: Path = ENVIRONMENT) -> bool:
    """True if the stamp is there, was written for the current pins, and TensorFlow 2.2.0 imports (takes about 3 s)."""
    stamped = is_stamped(environment / STAMP, CONSTRAINTS)
    return stamped and _tensorflow_version(environment_python(environment)) == TENSORFLOW


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
    parser.parse_args()
    print(make())


if __name__ == "__main__":
    run(main)
