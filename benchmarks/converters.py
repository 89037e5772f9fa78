"""Compares the two converters on the same normal form: the project's own writer and onnx2tf.

Example:
    python -m benchmarks.converters --models resnet50 resnest50

For each model, with random weights: seconds and peak memory of the conversion, size of the SavedModel, milliseconds per image
and the largest error against ONNX Runtime, in the current TensorFlow and in TensorFlow 2.2. Writes
benchmarks/results/converters.json.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.export_cost import write_checkpoint
from benchmarks.results_files import write_results
from export import tf22
from export.parity.probes import picture
from export.storage import CONVERTERS
from pipeline.steps import Steps
from zoo.command import run
from zoo.preprocess import normalise
from zoo.signature import BATCH_SIGNATURE, DESCRIPTOR, batch_input
from zoo.specs import PreprocessSpec
from zoo.tolerances import compare
from zoo.variants import get_spec

IMAGES, CALLS, ROUNDS = 8, 4, 3
"""Images per call, calls per round, and rounds, in which the converters take turns; the first round is not timed."""


def measure(model: str, folder: Path) -> list[dict]:
    """One row per converter."""
    checkpoint, raw, normal = (folder / name for name in ("model.safetensors", "model.onnx", "normal_form.onnx"))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(write_checkpoint, model, "torch", checkpoint).result()
    with Steps(_made(folder / "onnx")) as steps:
        options = ("--ckpt", checkpoint, "--framework", "torch", "--out", raw)
        steps.run("ONNX", [("export.to_onnx", *options)], [raw])
        steps.run("normal form", [("export.normal_form", "--onnx", raw, "--out", normal)], [normal])
    rows = [{"model": model, "converter": name} | _convert(name, normal, folder / name) for name in CONVERTERS]
    preprocess = get_spec(model).preprocess
    random = np.random.default_rng(0)
    pixels = np.stack([picture(random, preprocess.size, preprocess.size) for _ in range(IMAGES)])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        expected = pool.submit(_descriptors, normal, pixels, preprocess).result()
    key = batch_input(preprocess.size, preprocess.resize)
    np.savez(folder / "pixels.npz", **{f"{call}/{key}": pixels for call in range(CALLS)})
    for python in (Path(sys.executable), tf22.require_python()):
        for row, found in zip(rows, _run(folder, python, expected), strict=True):
            row["tensorflow"] = row.get("tensorflow", {}) | found
    return rows


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _convert(converter: str, normal: Path, folder: Path) -> dict:
    """Seconds, peak memory and size of one conversion to `folder`."""
    command = ("export.writer", "--converter", converter, "--onnx", normal, "--out", folder)
    with Steps(_made(folder.with_name(f"{converter}_steps"))) as steps:
        steps.run(converter, [command], [folder])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "seconds": steps.seconds[converter],
        "peak_mib": steps.peak_rss_mib,
        "megabytes": round(size / 1e6, 1),
    }


def _descriptors(normal: Path, pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    """ONNX Runtime's; called in another process, because it keeps its memory."""
    from export import onnx_runtime

    return onnx_runtime.run(onnx_runtime.session(normal), normalise(pixels, preprocess))[0]


def _run(folder: Path, python: Path, expected: np.ndarray) -> list[dict]:
    """{version: figures} of each converter's SavedModel in one TensorFlow."""
    outputs = [folder / f"{name}.npz" for name in CONVERTERS]
    calls = [
        tf22.Call(
            saved_model=folder / name, signature=BATCH_SIGNATURE, inputs=folder / "pixels.npz", outputs=descriptors
        )
        for name, descriptors in zip(CONVERTERS, outputs, strict=True)
    ]
    report = tf22.run_calls(calls * ROUNDS, python=python)
    found = []
    for index, path in enumerate(outputs):
        rounds = report["seconds"][index :: len(calls)][1:]
        milliseconds = [1000 * seconds / IMAGES for calls in rounds for seconds in calls.values()]
        with np.load(path, allow_pickle=False) as arrays:
            error = max(compare(expected, arrays[f"{call}/{DESCRIPTOR}"]).max_abs for call in range(CALLS))
        figures = {"best_ms": min(milliseconds), "median_ms": statistics.median(milliseconds)}
        found.append({report["tensorflow"]: {k: round(v, 1) for k, v in figures.items()} | {"max_abs": error}})
    return found


def table(rows: list[dict]) -> str:
    """One line per model and converter."""
    versions = list(rows[0]["tensorflow"])
    columns = [f"{what} {version}" for version in versions for what in ("ms per image, TensorFlow", "largest error,")]
    head = ["model", "converter", "seconds", "peak memory, MiB", "MB", *columns]
    lines = [f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 2)}"]
    for row in rows:
        measured = [row["tensorflow"][version] for version in versions]
        cells = [row["model"], row["converter"], f"{row['seconds']:.0f}", f"{row['peak_mib']:,.0f}"]
        cells += [f"{row['megabytes']:.0f}"]
        for figures in measured:
            cells += [f"{figures['best_ms']:.0f} ({figures['median_ms']:.0f})", f"{figures['max_abs']:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnest50"], help="variants of the zoo")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/converters.json")
    arguments = parser.parse_args()
    tf22.require_python()
    rows = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(model, Path(folder))
    out = write_results("converters", rows, arguments.out)
    print(table(rows))
    print(out)


if __name__ == "__main__":
    run(main)
