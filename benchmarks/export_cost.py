"""Measures the cost of an export, checks included: seconds and peak memory of all its processes, and of onnx2tf's conversion.

Example:
    python -m benchmarks.export_cost --models resnet50 resnest269

Each model is exported from each framework by `export/to_savedmodel.py`, including the checks in a real TensorFlow 2.2, and
its normal form is converted by onnx2tf. Writes benchmarks/results/export_cost.json.
"""

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.results_files import write_results
from export.tf22 import require_python
from pipeline.steps import StepError, Steps
from zoo.command import log, run
from zoo.constants import FRAMEWORKS

SECONDS = {"resnet50": 60, "resnest269": 240}
"""Targets for the whole command on two cores."""
TIMES_WEIGHTS, PLUS_MIB = 8, 2048
"""The target for peak memory: 8 times the weights plus 2 GiB."""


def write_checkpoint(model: str, framework: str, path: Path) -> None:
    """Random weights of a variant; called in another process, because PyTorch stays in memory."""
    from parity_tests.random_weights import random_checkpoint
    from zoo.checkpoint import save_checkpoint
    from zoo.variants import get_spec

    save_checkpoint(path, random_checkpoint(get_spec(model), seed=1, framework=framework))


def measure(model: str, framework: str, folder: Path) -> dict:
    """One export's row; "onnx2tf" is None if it failed."""
    checkpoint, out = folder / "model.safetensors", folder / "out"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(write_checkpoint, model, framework, checkpoint).result()
    row = {"model": model, "framework": framework, "weights_mib": round(checkpoint.stat().st_size / 2**20, 1)}
    row |= _cost("export", ("export.to_savedmodel", "--ckpt", checkpoint, "--out", out), folder / "export")
    options = ("-i", out / "normal_form.onnx", "-o", folder / "onnx2tf", "-osd", "-nuo", "-n")
    try:
        row["onnx2tf"] = _cost("onnx2tf", ("onnx2tf", *options), folder / "converter")
    except StepError as error:
        log(str(error))
        row["onnx2tf"] = None
    return row


def _cost(name: str, command: tuple, folder: Path) -> dict:
    folder.mkdir()
    with Steps(folder) as steps:
        steps.run(name, [command], [folder / "never made"])
    return {"seconds": steps.seconds[name], "peak_mib": steps.peak_rss_mib}


def table(rows: list[dict]) -> str:
    """One line per export, with its targets."""
    lines = [
        "| model | from | weights, MiB | seconds | peak memory incl. 80 of the benchmark, MiB | target: 8 × weights + 2 GiB | onnx2tf only: seconds, MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        seconds, most = row["seconds"], SECONDS.get(row["model"])
        allowed = f"{seconds:.0f} (≤ {most})" if most else f"{seconds:.0f}"
        other = row["onnx2tf"]
        converter = f"{other['seconds']:.0f}, {other['peak_mib']:,.0f}" if other else "failed"
        bound = TIMES_WEIGHTS * row["weights_mib"] + PLUS_MIB
        figures = f"{row['weights_mib']:.0f} | {allowed} | {row['peak_mib']:,.0f} | {bound:,.0f} | {converter}"
        lines.append(f"| {row['model']} | {row['framework']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["resnet50", "resnest50", "resnest269"], help="variants of the zoo"
    )
    parser.add_argument("--frameworks", nargs="+", default=FRAMEWORKS, choices=FRAMEWORKS)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/export_cost.json")
    arguments = parser.parse_args()
    require_python()  # without TensorFlow 2.2 an export would skip the checks that are measured here
    rows = []
    for model in arguments.models:
        for framework in arguments.frameworks:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(model, framework, Path(folder)))
    out = write_results("export_cost", rows, arguments.out)
    print(table(rows))
    print(out)


if __name__ == "__main__":
    run(main)
