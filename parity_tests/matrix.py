"""Every small member, from each framework, through ONNX, its normal form and a SavedModel into TensorFlow 2.2.

Example:
    python -m parity_tests.matrix

Its rows become those of parity_tests/results/parity.csv whose network is "small". What `export/to_savedmodel.py` does for one
checkpoint in five processes is done here for a hundred in a handful, so that the whole matrix is part of the test suite.
"""

import argparse
import functools
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx

from export import parity, tf22
from export.parity import probes
from export.parity.everywhere import Arrays, Found, Served, read_calls, run_onnx, write_calls
from parity_tests.results_table import RESULTS, csv_row, merge
from parity_tests.small_models import SMALL_SPECS, exported, in_normal_form, small_checkpoint
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.preprocess import normalise
from zoo.signature import batch_input

AT_ONCE = 2
"""Processes that convert side by side, and that run what was converted."""


def measure(folder: Path, names: Sequence[str] = tuple(SMALL_SPECS)) -> dict[tuple[str, str], list[parity.Row]]:
    """The rows of every member from every framework; SavedModels stay in `folder`/<name>_<framework>/saved_model."""
    made = {(name, framework): folder / f"{name}_{framework}" for name in names for framework in FRAMEWORKS}
    for (name, framework), place in made.items():
        place.mkdir(parents=True)
        onnx.save(in_normal_form(name, framework), place / "normal_form.onnx")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(_convert, [list(made.values())[start::AT_ONCE] for start in range(AT_ONCE)]))
        pythons = (Path(sys.executable), tf22.require_python())
        todays, in_tf22 = pool.map(lambda python: _served(python, made), pythons)
    return {key: _rows(*key, todays[key], in_tf22[key]) for key in made}


def _convert(places: list[Path]) -> None:
    """In one process: TensorFlow takes longer to start than a small network to convert."""
    pairs = [str(path) for place in places for path in (place / "normal_form.onnx", place / "saved_model")]
    command = [sys.executable, "-m", "parity_tests.convert_worker", *pairs]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _served(python: Path, made: dict[tuple[str, str], Path]) -> dict[tuple[str, str], Served]:
    """Descriptors of batches and of images from the TensorFlow that a python has."""
    with tempfile.TemporaryDirectory() as work:
        places = {key: Path(work, "_".join(key)) for key in made}
        calls = []
        for key, place in places.items():
            place.mkdir()
            spec, saved_model = SMALL_SPECS[key[0]].preprocess, made[key] / "saved_model"
            batches = probes.pixel_batches(spec.size) | probes.resized_images(spec)
            named = {key: {batch_input(spec.size, spec.resize): pixels} for key, pixels in batches.items()}
            calls += write_calls(saved_model, named, probes.images(spec.size), place)
        tf22.run_calls(calls, python=python)
        return {key: read_calls(place) for key, place in places.items()}


@functools.cache
def source(name: str, framework: str) -> Arrays:
    """Descriptors of the probes' batches from the framework itself."""
    model = importlib.import_module(f"{framework}_models.checkpoint").build(small_checkpoint(name))
    intermediates = importlib.import_module(f"{framework}_models.embedder").intermediates
    spec = SMALL_SPECS[name].preprocess
    batches = probes.pixel_batches(spec.size)
    return {key: intermediates(model, normalise(batch, spec))["descriptor"] for key, batch in batches.items()}


def _rows(name: str, framework: str, today: Served, in_tf22: Served) -> list[parity.Row]:
    spec = SMALL_SPECS[name].preprocess
    batches = probes.pixel_batches(spec.size)
    original, normal = (
        run_onnx(model, batches, spec) for model in (exported(name, framework), in_normal_form(name, framework))
    )
    sources = {side: source(name, side) for side in FRAMEWORKS}
    arrows = Found(sources, original, normal, today, in_tf22).arrows(framework)
    return [parity.measure(arrow, name, *sides) for arrow, sides in arrows.items()]


def write_table(folder: Path, found: dict[tuple[str, str], list[parity.Row]], out: Path = RESULTS) -> None:
    """Replaces the rows of the measured members in parity.csv; `folder` is the one that `measure` filled."""
    for (name, framework), rows in found.items():
        saved_model, size = folder / f"{name}_{framework}" / "saved_model", SMALL_SPECS[name].preprocess.size
        merge([csv_row(row, name, "small", framework, size, saved_model) for row in rows], out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=tuple(SMALL_SPECS), choices=tuple(SMALL_SPECS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.models)
        write_table(Path(folder), found, arguments.out)
        log("\n".join(str(row) for rows in found.values() for row in rows))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
