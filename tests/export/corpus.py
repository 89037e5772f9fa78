"""Writes the SavedModels on which the checker is compared with real TensorFlows (`export/checker/prove.py`).

    python -m tests.export.corpus FOLDER [PYTHON...]

FOLDER/contest/ gets those of `checked_models`, which have the contest's signature; FOLDER/any/ gets small networks from our own export
and from onnx2tf, nobuco's, and what the TensorFlow of each PYTHON writes itself.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from parity_tests.small_models import FAMILIES, exported
from zoo.processes import run_module

HERE = Path(__file__).resolve().parent
NOBUCO = HERE / "nobuco_resnest_small" / "saved_model"
"""Raw output of nobuco 0.17 with TensorFlow 2.15, made by the `make.py` beside it."""
CONVERTED = ("resnet18", "seresnet50", "resnext50_32x4d")
"""Families of which a small network is converted: plain, with attention, with grouped convolutions."""
_OF_CONTEST = ("good", "not_finite")


def write_converted(folder: Path) -> None:
    """<name>_ours, <name>_dynamic and <name>_static of each of `CONVERTED`, and the files that they are made from."""
    for name in CONVERTED:
        onnx.save(exported(FAMILIES[name], "torch"), folder / f"{name}.onnx")
    run_script("tests.export.converted_models", folder, *CONVERTED)


def write_in_another(python: Path | str, folder: Path) -> str:
    """What the TensorFlow of another Python writes; returns its version."""
    command = [python, "-I", HERE / "write_in_another.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()[-1]


def run_script(module: str, *arguments: object) -> None:
    """Runs a module that writes files, in a process of its own: TensorFlow keeps what it has made."""
    done = run_module(module, *arguments, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]


def main(folder: Path, pythons: list[str]) -> None:
    """Writes all of them."""
    contest, others = folder / "contest", folder / "any"
    for place in (contest, others):
        place.mkdir(parents=True, exist_ok=True)
    run_script("tests.export.checked_models", contest)
    shutil.copytree(NOBUCO, others / "nobuco")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        write_converted(Path(work))
        for path in Path(work).glob("*/"):
            path.rename(others / path.name)
    for python in pythons:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            version = write_in_another(python, Path(work))
            for path in Path(work).iterdir():
                path.rename((contest if path.name in _OF_CONTEST else others) / f"{path.name}_of_{version}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
