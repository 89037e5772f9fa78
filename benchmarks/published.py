"""Measures whether published retrieval networks, imported with their heads, give their libraries' descriptors.

Example:
    python -m benchmarks.published

The files have the names, layouts and settings of each library, and random weights (`parity_tests/published`): nothing is
downloaded. Each goes through `zoo.import_weights` into PyTorch and Paddle, and through ONNX and a SavedModel into TensorFlow 2.2.
Writes benchmarks/results/published.json.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from benchmarks.results_files import write_results
from export import tf22
from export.exporters import export_onnx
from export.normal_form.rewrites import normal_form
from export.parity.everywhere import read_calls, write_calls
from export.parity.probes import pixel_batches
from parity_tests.published.files import PublishedNetwork, save
from parity_tests.published.networks import NETWORKS
from parity_tests.small_models import shrunk
from zoo.checkpoint import Checkpoint
from zoo.command import run
from zoo.constants import FRAMEWORKS
from zoo.import_weights import import_weights
from zoo.preprocess import normalise
from zoo.published.heads import Stated
from zoo.signature import batch_input
from zoo.tolerances import compare


def measure(names: list[str], folder: Path) -> list[dict]:
    """A row per network: its library, its head, and the largest differences from the library's descriptors."""
    networks = {name: NETWORKS[name]() for name in names}
    usual = shrunk("resnet50").preprocess
    pixels = pixel_batches(usual.size)
    places = {name: folder / str(number) for number, name in enumerate(names)}
    made: dict[str, Checkpoint] = {}
    for name, published in networks.items():
        places[name].mkdir()
        made[name] = import_weights(
            save(published, places[name]), shrunk(published.variant), stated=Stated(**published.stated)
        )
        onnx.save(normal_form(export_onnx(made[name], FRAMEWORKS[0])), places[name] / "normal_form.onnx")
    served = _in_tf22(list(places.values()), batch_input(usual.size, usual.resize), pixels)
    rows = []
    for name, published in networks.items():
        expected = _theirs(published, pixels)
        errors = {side: _largest(expected, _ours(made[name], side, pixels)) for side in FRAMEWORKS}
        errors["tf 2.2"] = _largest(expected, served[places[name]])
        rows.append({"library": published.library, "head": published.described, "errors": errors})
    return rows


def _theirs(published: PublishedNetwork, pixels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {key: published.descriptors(batch).numpy() for key, batch in pixels.items()}


def _ours(checkpoint: Checkpoint, framework: str, pixels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = importlib.import_module(f"{framework}_models.checkpoint").build(checkpoint)
    intermediates = importlib.import_module(f"{framework}_models.embedder").intermediates
    preprocess = checkpoint.spec.preprocess
    return {key: intermediates(model, normalise(batch, preprocess))["descriptor"] for key, batch in pixels.items()}


def _in_tf22(places: list[Path], key: str, pixels: dict[str, np.ndarray]) -> dict[Path, dict[str, np.ndarray]]:
    """Descriptors of the SavedModels that are made of each place's normal form."""
    pairs = [str(path) for place in places for path in (place / "normal_form.onnx", place / "saved_model")]
    subprocess.run([sys.executable, "-m", "parity_tests.convert_worker", *pairs], check=True, capture_output=True)
    batches = {name: {key: batch} for name, batch in pixels.items()}
    calls = [call for place in places for call in write_calls(place / "saved_model", batches, {}, place)]
    tf22.run_calls(calls, python=tf22.require_python())
    return {place: read_calls(place)[0] for place in places}


def _largest(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Of the differences between entries of descriptors."""
    return max(compare(rows, found[key]).max_abs for key, rows in expected.items())


def table(rows: list[dict]) -> str:
    """One line per network."""
    sides = list(rows[0]["errors"])
    lines = [f"| library | head | {' | '.join(sides)} |", f"| --- | --- |{' ---: |' * len(sides)}"]
    for row in rows:
        errors = " | ".join(f"{row['errors'][side]:.0e}" for side in sides)
        lines.append(f"| {row['library']} | {row['head']} | {errors} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=tuple(NETWORKS),
        help="only these: the table is printed, and written to --out alone",
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/published.json, if all are measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.networks or list(NETWORKS), Path(folder))
    print(table(rows))
    if arguments.out or not arguments.networks:
        print(write_results("published", rows, arguments.out))


if __name__ == "__main__":
    run(main)
