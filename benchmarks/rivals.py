"""Makes `.rivals/<name>`: the environments of other converters, exporters and hand-written networks in the benchmarks.

Example:
    python -m benchmarks.rivals

Each is pinned by benchmarks/rivals/<name>.txt. A stamp is written last; if it is missing or has other pins, the
environment is made again. Does nothing if all are complete. Takes 2.2 GB on disk, nearly all of it for nobuco.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from zoo.command import log, run
from zoo.environments import environment_python, is_stamped, make_environment, write_stamp
from zoo.errors import MissingToolError

ROOT = Path(__file__).resolve().parents[1]
RIVALS, PINS = ROOT / ".rivals", Path(__file__).resolve().with_name("rivals")
NAMES = ("nobuco", "keras", "dynamo")
"""nobuco needs an older TensorFlow and Keras than ours, and so its own environment. keras-cv-attention-models and the packages of
torch.onnx' newer back end run in ours and only need a folder on PYTHONPATH: 17 MB instead of 2 GB."""
STAMP = "landmark-zoo-rival.json"
PYTHON = "3.11"
"""nobuco needs TensorFlow 2.15, which supports no newer Python."""
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""As in the Makefile: CPU builds of torch are installed from here if it is reachable, otherwise from pip's default index."""


@dataclass(frozen=True)
class Environment:
    """A Python and its additional environment variables."""

    python: Path
    variables: dict[str, str] = field(default_factory=dict)


def require(name: str) -> Environment:
    """A contender's environment.

    Raises:
        MissingToolError: it is missing, incomplete or made from other pins.
    """
    if not is_complete(name):
        raise MissingToolError(
            f"{RIVALS / name} is missing or does not match {PINS / name}.txt. Run `python -m benchmarks.rivals`."
        )
    return _environment(name)


def is_complete(name: str) -> bool:
    """True if the stamp exists and was written for the current pins."""
    return is_stamped(RIVALS / name / STAMP, _pins(name))


def make(name: str) -> Path:
    """Makes a contender's environment unless it is complete; returns its folder.

    Raises:
        MissingToolError: there is no Python 3.11, or the packages could not be installed.
    """
    folder, pins = RIVALS / name, _pins(name)
    if is_complete(name):
        log(f"{folder} is complete")
        return folder
    if name == "nobuco":
        index = os.environ.get("TORCH_INDEX", TORCH_INDEX)
        make_environment(folder, PYTHON, ["-r", pins], first=_torch_pins(pins), first_index=index)
    else:
        _install_beside(folder, pins)
    write_stamp(folder / STAMP, pins)
    return folder


def _install_beside(folder: Path, pins: Path) -> None:
    """Installs only the pinned packages into a folder that PYTHONPATH adds to this project's environment."""
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, "-r", pins]
    if subprocess.run(pip, stdout=sys.stderr).returncode:
        raise MissingToolError(
            f"pip could not install {pins} into {folder}; its message is above. Check the network and the free disk space, "
            "then run `python -m benchmarks.rivals` again."
        )


def _environment(name: str) -> Environment:
    if name == "nobuco":
        return Environment(environment_python(RIVALS / name))
    return Environment(Path(sys.executable), {"PYTHONPATH": str(RIVALS / name)})


def _pins(name: str) -> Path:
    return PINS / f"{name}.txt"


def _torch_pins(pins: Path) -> list[str]:
    lines = pins.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(("torch==", "torchvision=="))]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    for name in parser.parse_args().names:
        make(name)
    print(RIVALS)


if __name__ == "__main__":
    run(main)
