"""Reads operators and kernels from TensorFlow's own wheels into export/checker/registries/, which `export/check.py` uses.

Examples:
    python -m export.checker.make_registries                          # every version below, 3 minutes and 2 GB of disk at a time
    python -m export.checker.make_registries --versions 2.2.0 2.4.0
    python -m export.checker.make_registries --python .venv-tf22/bin/python   # the TensorFlow of this python

Each version is installed into a temporary virtual environment.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from export.checker.registry import PATH, store_registries
from zoo.arguments import given_path
from zoo.command import log, run
from zoo.environments import make_environment
from zoo.errors import MissingToolError

WORKER = Path(__file__).resolve().parent / "registry_worker.py"
OLD = ("protobuf<3.21", "numpy<1.24")
"""Upper bounds that TensorFlow up to 2.11 needs but does not declare."""
WHEELS: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(("2.0.0", "2.1.0"), ("3.7", OLD)),
    **dict.fromkeys(("2.2.0", "2.3.0", "2.4.0", "2.5.0", "2.6.0", "2.7.0"), ("3.8", OLD)),
    **dict.fromkeys(("2.8.0", "2.9.0", "2.10.0", "2.11.0"), ("3.10", OLD)),
    **dict.fromkeys(("2.12.0", "2.13.0", "2.14.0", "2.15.0", "2.16.1", "2.17.0"), ("3.11", ("numpy<2",))),
    **dict.fromkeys(("2.18.0", "2.19.0", "2.19.1", "2.20.0", "2.21.0"), ("3.11", ())),
}
"""{TensorFlow: (a Python that it has wheels for, additional requirements)}: the first release of each minor version on
PyPI, and the release that writes our SavedModels."""


def read(python: str | Path) -> dict:
    """The registry of the TensorFlow installed for `python`; see `export/checker/registry.py`.

    Raises:
        MissingToolError: it has no TensorFlow that can be read; the message quotes its stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "registry.json")
        # oneDNN runs forms that TensorFlow's own kernels refuse. By default TensorFlow enables it only on some
        # processors; without this variable the registry would depend on the machine.
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
        command = [python, "-I", WORKER, out]
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
    wanted, others = WHEELS.get(version, ("3.11", ()))
    package = "tensorflow" if version.startswith("2.0.") else "tensorflow-cpu"  # tensorflow-cpu begins with 2.1
    with tempfile.TemporaryDirectory() as folder:
        return read(make_environment(Path(folder), wanted, [f"{package}=={version}", *others]))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="+", default=[], help="versions to install from PyPI and to read")
    parser.add_argument(
        "--python", nargs="+", default=[], type=given_path, help="read the TensorFlow of these pythons instead"
    )
    return parser.parse_args()


def main() -> None:
    """Command line: a version that cannot be installed or read is reported and skipped."""
    arguments = parse_arguments()
    for python in arguments.python:
        store_registries([read(python)])
    chosen = arguments.versions or ([] if arguments.python else list(WHEELS))
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
