"""Shows what a SavedModel spends its time on: convolutions, and how fast the runtime's own matrix product would be instead.

Example:
    python -m benchmarks.kernels --models resnet50 --batches 1

A convolution is a matrix product of [pixels, channels of a patch] and [channels of a patch, filters]. For each network, batch and
runtime (ONNX Runtime, the current TensorFlow, TensorFlow 2.2) the table has the time of a batch, the part of it in convolutions,
and the time of nothing but the same matrix products in the same runtime. Where the latter two are alike, no other graph can
be much faster: the runtime's product is what takes the time. Writes benchmarks/results/kernels.json.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.results_files import write_results
from benchmarks.serving_contenders import SIZE
from benchmarks.serving_tables import TF22, TODAY
from export import tf22
from export.exporters import INPUT, export_onnx
from export.normal_form.rewrites import normal_form
from parity_tests.random_weights import random_checkpoint
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.errors import ExportError
from zoo.processes import module_command, module_environment, run_command
from zoo.signature import BATCH_SIGNATURE
from zoo.strict import Count
from zoo.variants import SPECS, get_spec

WORKER = Path(__file__).with_name("kernels_worker.py")
ONNX_RUNTIME = "ONNX Runtime"


def products(model: onnx.ModelProto, batch: int) -> list[tuple[int, int, int]]:
    """The matrix products of a network's convolutions for `batch` images: (rows, shared length, columns) of each."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    (images,) = (value for value in model.graph.input if value.name == INPUT)
    for dimension, length in zip(images.type.tensor_type.shape.dim, (batch, 3, SIZE, SIZE), strict=True):
        dimension.dim_value = length
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    kernels = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    found = []
    for node in (node for node in inferred.node if node.op_type == "Conv"):
        _, _, *sides = shapes[node.output[0]]
        filters, *patch = kernels[node.input[1]]
        found.append((batch * int(np.prod(sides)), int(np.prod(patch)), filters))
    return found


def measure(model: str, batches: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """A row per batch and runtime of one variant with random weights."""
    normal, saved = work / "normal_form.onnx", work / "saved_model"
    graph = normal_form(export_onnx(random_checkpoint(get_spec(model).resized(SIZE), seed=1), FRAMEWORKS[0]))
    onnx.save(graph, normal)
    _output(module_command("export.writer", "--onnx", normal, "--static", "--out", saved))
    tensorflow = {"runtime": "tensorflow", "network": str(saved), "signature": BATCH_SIGNATURE}
    runtimes = {
        ONNX_RUNTIME: (sys.executable, {"runtime": "onnxruntime", "network": str(normal)}),
        TODAY: (sys.executable, tensorflow),
        TF22: (str(tf22.require_python()), tensorflow),
    }
    rows = []
    for batch in batches:
        needed = products(graph, batch)
        shared = {"shape": [batch, SIZE, SIZE, 3], "products": needed, "threads": os.cpu_count()}
        for name, (python, job) in runtimes.items():
            log(f"… {model}: batch {batch} in {name}")
            found = json.loads(_output([python, str(WORKER), json.dumps(job | shared)]).splitlines()[-1])
            row = {"model": model, "batch": batch, "runtime": name, "version": found["version"]}
            row |= {"ms": found["ms"], "operators": found["operators"], "products": found["products"]}
            rows.append(row | {"gflop": 2e-9 * sum(m * k * n for m, k, n in needed)})
    return rows


def _output(command: Sequence[str]) -> str:
    """What a command prints. Raises `ExportError` with the last line of its stderr if it fails."""
    done = run_command(command, capture_output=True, env=module_environment())
    if done.returncode:
        raise ExportError((done.stderr.strip() or f"status {done.returncode}").splitlines()[-1])
    return done.stdout


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: milliseconds of a batch, of its convolutions, of the same matrix products, and the operators that take most of the rest."""
    lines = [
        "| model | batch | in | ms | × ONNX Runtime | convolutions, ms | as matrix products, ms (GFLOP/s) | the rest, ms |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    fastest = {(row["model"], row["batch"]): row["ms"] for row in rows if row["runtime"] == ONNX_RUNTIME}
    for row in rows:
        place = row["runtime"] if row["runtime"] == ONNX_RUNTIME else "TensorFlow"
        convolutions = sum(ms for kind, ms in row["operators"].items() if "Conv" in kind)
        rest = sorted(((ms, kind) for kind, ms in row["operators"].items() if "Conv" not in kind), reverse=True)[:3]
        most = ", ".join(f"{kind} {ms:.1f}" for ms, kind in rest)
        cells = [row["model"], str(row["batch"]), f"{place} {row['version']}", f"{row['ms']:.1f}"]
        cells += [f"{row['ms'] / fastest[row['model'], row['batch']]:.2f}", f"{convolutions:.1f}"]
        cells += [f"{row['products']:.1f} ({1000 * row['gflop'] / row['products']:.0f})", most]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SPECS, default=["resnet50", "resnest50"], metavar="MODEL")
    parser.add_argument("--batches", nargs="+", type=ranged(Count), default=[1, 8], help="default: 1 8")
    parser.add_argument("--out", type=given_path, help="default: benchmarks/results/kernels.json")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as work:
            rows += measure(model, arguments.batches, Path(work))
    print(table(rows))
    print(write_results("kernels", rows, arguments.out))


if __name__ == "__main__":
    run(main)
