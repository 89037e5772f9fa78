"""Reads operators and kernels out of TensorFlow's real wheels into export/registries/, which `export/check.py` asks.

Examples:
    python -m export.checker.make_registries                          # every version below, 3 minutes and 2 GB of disk at a time
    python -m export.checker.make_registries --versions 2.2.0 2.4.0
    python -m export.checker.make_registries --python .venv-tf22/bin/python   # the TensorFlow that this python has

Each version is installed into a virtual environment of its own, which is removed when it has been read.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from export.checker.registry import PATH, store_registries
from zoo.command import log, run
from zoo.errors import MissingToolError

WORKER = Path(__file__).resolve().parent / "registry_worker.py"
OLD = ("protobuf<3.21", "numpy<1.24")
"""What TensorFlow up to 2.11 breaks without and did not know yet to ask for."""
WHEELS: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(("2.0.0", "2.1.0"), ("3.7", OLD)),
    **dict.fromkeys(("2.2.0", "2.3.0", "2.4.0", "2.5.0", "2.6.0", "2.7.0"), ("3.8", OLD)),
    **dict.fromkeys(("2.8.0", "2.9.0", "2.10.0", "2.11.0"), ("3.10", OLD)),
    **dict.fromkeys(("2.12.0", "2.13.0", "2.14.0", "2.15.0", "2.16.1", "2.17.0"), ("3.11", ("numpy<2",))),
    **dict.fromkeys(("2.18.0", "2.19.0", "2.19.1", "2.20.0", "2.21.0"), ("3.11", ())),
}
"""{TensorFlow: (Python that it has wheels for, what is installed with it)}: the first of each minor version that PyPI
has, and the one that writes our SavedModels."""


def read(python: str | Path) -> dict:
    """The registry of the TensorFlow that `python` has; see `export/checker/registry.py`.

    Raises:
        MissingToolError: it has none that can be read; what it said stands in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "registry.json")
        # oneDNN runs forms that TensorFlow's own kernels refuse. TensorFlow turns it on by itself only on some
        # processors, so that without this variable the registry would depend on the machine that read it.
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
        command = [python, "-I", WORKER, out]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise MissingToolError(
                f"{python}: expected a TensorFlow that can be read, found:\n{done.stderr[-2000:].strip()}"
            )
        return json.loads(out.read_text(encoding="utf-8"))


def install_and_read(version: str) -> dict:
    """The registry of a version from PyPI.

    Raises:
        MissingToolError: no Python for it, or pip cannot install it, or it does not run here.
    """
    wanted, others = WHEELS.get(version, ("3.11", ()))
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "bin", "python")
        _call([_find_python(wanted), "-I", "-m", "venv", folder])
        pip = [python, "-I", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--prefer-binary"]
        package = "tensorflow" if version.startswith("2.0.") else "tensorflow-cpu"  # which begins with 2.1
        _call([*pip, f"{package}=={version}", *others])
        return read(python)


def _call(command: list) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingToolError(f"{' '.join(map(str, command))} failed:\n{done.stderr[-1500:].strip()}")


def _find_python(version: str) -> Path:
    """The first Python `version`, as "3.8", on PATH or from pyenv or uv, that runs."""
    for candidate in _candidates(version):
        code = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([candidate, "-I", "-c", code], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return candidate
    raise MissingToolError(
        f"Python {version} with ensurepip was expected on PATH, in pyenv or in uv; found none. `uv python install {version}`"
    )


def _candidates(version: str) -> Iterator[Path]:
    yield from (Path(folder or os.curdir, f"python{version}").absolute() for folder in os.get_exec_path())
    yield from sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"), reverse=True)
    yield from sorted((Path.home() / ".local/share/uv/python").glob(f"cpython-{version}.*/bin/python"), reverse=True)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="+", default=[], help="versions to install from PyPI and to read")
    parser.add_argument("--python", nargs="+", default=[], type=Path, help="pythons whose TensorFlow is read instead")
    return parser.parse_args()


def main() -> None:
    """Command line: what cannot be had is said and left out."""
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
            log(f"  left out: {error}")
            missing.append(version)
    print(PATH)
    if missing:
        raise MissingToolError(f"could not be read: {', '.join(missing)}; why is said above")


if __name__ == "__main__":
    run(main)
