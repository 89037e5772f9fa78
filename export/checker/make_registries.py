"""Reads operators and kernels from TensorFlow's own wheels into export/checker/registries/, which `export/check.py` uses.

Examples:
    python -m export.checker.make_registries                          # all of `WHEELS`, 3 minutes and 2 GB of disk at a time
    python -m export.checker.make_registries --versions 2.2 2.4
    python -m export.checker.make_registries --python .venv-tf22/bin/python   # the TensorFlow of this python

Each version is installed into a temporary virtual environment.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from export.checker.registry import PATH, store_registries
from export.tensorflows import WHEELS, environment_variables, full_version, has_onednn, python_for, requirements
from zoo.arguments import given_path
from zoo.command import log, run
from zoo.environments import make_environment
from zoo.errors import MissingToolError

WORKER = Path(__file__).resolve().parent / "registry_worker.py"


def read(python: str | Path) -> dict:
    """The registry of the TensorFlow installed for `python`; see `export/checker/registry.py`.

    Raises:
        MissingToolError: it has no TensorFlow that can be read; the message quotes its stderr.
    """
    plain = _read(python, onednn=False)
    if not has_onednn(plain["tensorflow"]):
        return plain | {"only_with_onednn": []}
    fast = _read(python, onednn=True)
    return fast | {"only_with_onednn": sorted({*plain["refused"]} - {*fast["refused"]})}


def _read(python: str | Path, *, onednn: bool) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "registry.json")
        command, environment = [python, "-I", WORKER, out], environment_variables(onednn=onednn)
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
        if done.returncode:
            raise MissingToolError(
                f"{python}: expected a TensorFlow that can be read, found:\n{done.stderr[-2000:].strip()}"
            )
        return json.loads(out.read_text(encoding="utf-8"))


def install_and_read(version: str) -> dict:
    """The registry of a TensorFlow version from PyPI.

    Raises:
        MissingToolError: there is no Python for it, it cannot be installed, or it does not run on this machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        return read(make_environment(Path(folder), python_for(version), requirements(version)))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--versions",
        nargs="+",
        default=[],
        help="versions to install from PyPI and to read, of `WHEELS` in export/tensorflows.py",
    )
    parser.add_argument(
        "--python", nargs="+", default=[], type=given_path, help="read the TensorFlow of these pythons instead"
    )
    return parser.parse_args()


def main() -> None:
    """Command line: a version that cannot be installed or read is reported and skipped."""
    arguments = parse_arguments()
    for python in arguments.python:
        store_registries([read(python)])
    chosen = [full_version(version) for version in arguments.versions]
    chosen = chosen or ([] if arguments.python else list(WHEELS))
    missing = []
    for version in chosen:
        log(f"… TensorFlow {version}")
        try:
            store_registries([install_and_read(version)])
        except MissingToolError as error:
            log(f"  skipped: {error}")
            missing.append(version)
    print(PATH)
    if missing:
        raise MissingToolError(f"could not be read: {', '.join(missing)}; the reasons are above")


if __name__ == "__main__":
    run(main)
