"""Times our SavedModels, converters' output, hand-written networks and runtimes per batch, all in one run.

Example:
    python -m benchmarks.serving --models resnet50 resnest50 --batches 1 2 8 --rounds 30

Needs `make tf22` and `python -m benchmarks.rivals`, 16 GiB of memory, and 35 s per round and model on two cores. Each contender
runs in its own process. In each round the contenders run one after the other while all others are stopped, so a slow moment
of the machine affects all of them equally. All use float32, all cores and the same 224 px pictures. Our SavedModel includes
the normalisation. Ours, the converters', ONNX Runtime's and both frameworks' networks end in GeM, neck and a unit norm, and
are timed only if they return the same descriptors; hand-written networks end in averaged features. Writes
benchmarks/results/serving.json and prints its tables.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.results_files import write_results
from benchmarks.serving_contenders import PHOTO, SIZE, Contender, contenders, environments, write_inputs
from benchmarks.serving_process import Worker
from benchmarks.serving_tables import PHOTO_CASE, table
from zoo.command import log, run
from zoo.signature import CONTEST_SIGNATURE
from zoo.variants import get_spec

SAME = 1e-4
"""Largest allowed difference of any entry of the unit descriptor from PyTorch's; above it, a contender computes something else."""
REFERENCE = ("PyTorch", "eager")


def time_model(model: str, batches: Sequence[int], rounds: int, work: Path) -> list[dict]:
    """The rows of one variant: for each form of each contender, its milliseconds or the reason why it has none."""
    work.mkdir(parents=True, exist_ok=True)
    found = contenders(model, work)
    write_inputs(work / "inputs.npz", max(batches), get_spec(model).preprocess)
    with contextlib.ExitStack() as running:
        rows, turns = [], []
        for number, contender in enumerate(found):
            log(f"… {model}: starting {contender.peer} in {contender.where}")
            job = contender.job | {"inputs": str(work / "inputs.npz"), "threads": os.cpu_count()}
            worker = Worker(contender.environment, contender.script, job, work / f"{number}.log")
            running.callback(worker.close)
            for row, request in _forms(contender, worker, batches):
                rows.append(row)
                turns += [(row, worker, request | {"rows": size}, case) for case, size in request.pop("cases").items()]
        outputs = _first_answers(turns)
        _require_same(rows, outputs)
        seconds: dict[tuple[int, str], list[float]] = {}
        for number in range(rounds):
            log(f"… {model}: round {number + 1} of {rounds}")
            for row, worker, request, case in turns:
                if not row["error"]:
                    answer = worker.ask(times=1, **request)
                    row["error"] = answer.get("error")
                    seconds.setdefault((id(row), case), []).extend(answer.get("seconds", ()))
    for row, _, _, case in turns:
        if not row["error"]:
            taken = [1000 * second for second in seconds[id(row), case]]
            row["ms"][case] = {"best": round(min(taken), 2), "median": round(statistics.median(taken), 2)}
    return rows


def _forms(contender: Contender, worker: Worker, batches: Sequence[int]) -> list[tuple[dict, dict]]:
    """For each form, an empty row and its requests: {"cases": {case: rows}} and what they share."""
    failed = contender.failed | worker.forms
    if worker.error:
        failed |= dict.fromkeys(contender.job.get("forms", ["–"]), worker.error)
    found = []
    for form, error in failed.items():
        row = {"peer": contender.peer, "where": contender.where, "form": form, "versions": worker.versions}
        row |= {"same_weights": contender.same_weights, "max_abs": None, "error": error, "ms": {}}
        photo = form == CONTEST_SIGNATURE
        cases = {PHOTO_CASE: None} if photo else {str(size): size for size in batches}
        found.append((row, {"form": form, "array": PHOTO_CASE if photo else contender.array, "cases": cases}))
    return found


def _first_answers(turns: list) -> dict[int, np.ndarray]:
    """Runs every form once, untimed, so that graphs are built; returns {id of row: descriptor of the first picture}."""
    outputs = {}
    for row, worker, request, case in turns:
        if not row["error"]:
            answer = worker.ask(times=1, **request)
            row["error"] = answer.get("error")
            if case != PHOTO_CASE:
                outputs[id(row)] = np.array(answer.get("output"))
    return outputs


def _require_same(rows: list[dict], outputs: dict[int, np.ndarray]) -> None:
    """Stores each row's difference from PyTorch's descriptor; a row that differs gets an error instead of a time."""
    reference = next(outputs[id(row)] for row in rows if (row["peer"], row["form"]) == REFERENCE)
    for row in rows:
        if row["same_weights"] and not row["error"] and id(row) in outputs:
            row["max_abs"] = float(np.abs(outputs[id(row)] - reference).max())
            if not row["max_abs"] <= SAME:
                row["error"] = f"wrong descriptor: differs from PyTorch's by {row['max_abs']:.0e}"


def machine() -> dict:
    """What affects the times: cores, the processor's name, and the instructions that turn oneDNN on in TensorFlow."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    name = next((line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name")), "unknown")
    return {"cores": os.cpu_count(), "processor": name, "avx512": "avx512f" in text, "vnni": "avx512_vnni" in text}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnest50"], help="variants of the zoo")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 8], help="batch sizes")
    parser.add_argument("--rounds", type=int, default=30, help="rounds; each form is timed once per round")
    parser.add_argument("--work", type=Path, help="folder of exports and conversions, kept and reused")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/serving.json")
    arguments = parser.parse_args()
    environments()  # fail before anything is exported if one is missing
    results = {"machine": machine(), "rounds": arguments.rounds, "size": SIZE, "photo": PHOTO, "models": {}}
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).absolute()
        for model in arguments.models:
            results["models"][model] = time_model(model, arguments.batches, arguments.rounds, work / model)
    out = write_results("serving", results, arguments.out)
    print(table(results))
    print(out)


if __name__ == "__main__":
    run(main)
