"""Converts one network of the coverage benchmark by one converter and runs it in both TensorFlows; one process of the benchmark.

Example:
    python -m benchmarks.coverage_process --network FOLDER --size 96 --converter onnx2tf --out row.json

FOLDER is what `benchmarks.coverage_networks` makes. The row has the conversion's `seconds` of processor time, `errors` by TensorFlow, each a
number or null, and `failed`: why there is no SavedModel, or why a TensorFlow does not run it.
"""

import argparse
import re
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.coverage_networks import IMAGES, MODEL
from benchmarks.rivals import Environment
from benchmarks.serving_process import Worker
from export import tf22
from zoo.arguments import given_path
from zoo.command import run
from zoo.errors import ExportError
from zoo.files import write_json
from zoo.processes import module_command, module_environment, run_command
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE

CURRENT, TF22 = "current", "2.2"
"""The keys of a row's errors: the TensorFlow of this environment, and 2.2.0."""
OURS, ONNX2TF = "ours", "onnx2tf"
_WORKER = ("benchmarks/serving_worker.py",)


def measure(converter: str, network: Path, size: int) -> dict:
    """The row of one converter.

    Args:
        converter: a key of `CONVERTERS`.
        network: folder of the network's files.
        size: side of its images in pixels.
    """
    convert, signature, array = CONVERTERS[converter]
    row: dict = {"seconds": None, "errors": dict.fromkeys((CURRENT, TF22)), "failed": {}}
    with tempfile.TemporaryDirectory() as work:
        before = _processor_seconds()
        try:
            saved_model = convert(network / MODEL, size, Path(work))
        except ExportError as error:
            return row | {"failed": {"conversion": str(error)}}
        row["seconds"] = round(_processor_seconds() - before, 1)
        for where, python in ((CURRENT, Path(sys.executable)), (TF22, tf22.require_python())):
            try:
                found = _descriptors(saved_model, signature, network / IMAGES, array, python, Path(work, where))
                row["errors"][where] = relative_error(_expected(network), found)
            except ExportError as error:
                row["failed"][where] = str(error)
    return row


def _processor_seconds() -> float:
    """Of this process' children that have ended: unlike the time on the clock, it hardly depends on what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of two sets of descriptors [N, D] of unit norm, divided by the largest entry of the expected ones.

    Raises:
        ExportError: another shape, or a value that is not finite.
    """
    if found.shape != expected.shape:
        raise ExportError(f"wrong shape: {list(found.shape)}, expected {list(expected.shape)}")
    if not np.isfinite(found).all():
        raise ExportError("values that are not finite")
    expected, found = _unit(expected), _unit(found)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _unit(descriptors: np.ndarray) -> np.ndarray:
    descriptors = descriptors.astype(np.float64)
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def _expected(network: Path) -> np.ndarray:
    with np.load(network / IMAGES, allow_pickle=False) as arrays:
        return arrays["expected"]


def _descriptors(saved_model: Path, signature: str, images: Path, array: str, python: Path, log: Path) -> np.ndarray:
    """What a SavedModel computes for the images, [N, D], in the TensorFlow of a python.

    Raises:
        ExportError: it does not load or does not run there.
    """
    job = {"kind": "saved_model", "forms": {"it": [str(saved_model), signature]}, "inputs": str(images), "threads": 1}
    worker = Worker(Environment(python), _WORKER, job, log)
    try:
        answer = worker.ask(form="it", array=array, rows=None, times=0) if worker.forms.get("it", "") is None else {}
        problem = worker.error or worker.forms.get("it") or answer.get("error")
    finally:
        worker.close()
    if problem:
        raise ExportError(problem)
    with np.load(images, allow_pickle=False) as arrays:
        return np.array(answer["output"], np.float32).reshape(len(arrays[array]), -1)


def _with_ours(model: Path, size: int, work: Path) -> Path:
    """The steps of `to_savedmodel.py --onnx`, without its checks."""
    source, normal, saved = work / "model.onnx", work / "normal_form.onnx", work / "saved_model"
    _run(module_command("export.from_onnx", "--onnx", model, "--size", size, "--out", source))
    _run(module_command("export.normal_form", "--onnx", source, "--out", normal))
    _run(module_command("export.writer", "--onnx", normal, "--out", saved))
    return saved


def _with_onnx2tf(model: Path, _: int, work: Path) -> Path:
    saved = work / "saved_model"
    _run([sys.executable, "-m", "onnx2tf", "-i", str(model), "-osd", "-n", "-o", str(saved)])
    if not (saved / "saved_model.pb").is_file():
        raise ExportError("it wrote no SavedModel")
    return saved


def _run(command: list[str]) -> None:
    """Raises `ExportError` with what a failed command said last; of several lines, with the one that names an exception."""
    done = run_command(command, capture_output=True, env=module_environment())
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}, no output"
        named = [line for line in said.splitlines() if re.match(r"\w*(Error|Exception)\b|error: ", line)]
        raise ExportError((named or said.splitlines())[-1].strip()[:300])


CONVERTERS = {
    OURS: (_with_ours, BATCH_SIGNATURE, "pixels"),
    ONNX2TF: (_with_onnx2tf, CONTEST_SIGNATURE, "nhwc"),
}
"""How each makes a SavedModel, its signature, and which of the images it takes: onnx2tf's is `serving_default` too."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, type=given_path, help="folder of model.onnx and images.npz")
    parser.add_argument("--size", required=True, type=int, help="side of its images in pixels")
    parser.add_argument("--converter", required=True, choices=CONVERTERS, help="what makes the SavedModel")
    parser.add_argument("--out", required=True, type=given_path, help="the row to write")
    arguments = parser.parse_args()
    write_json(arguments.out, measure(arguments.converter, arguments.network, arguments.size))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
