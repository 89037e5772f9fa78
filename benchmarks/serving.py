"""Our SavedModels against converters, hand-written networks and runtimes: time for a batch, all of them in one run.

Example:
    python -m benchmarks.serving --models resnet50 resnest50 --batches 1 2 8 --rounds 30

Needs `make tf22` and `python -m benchmarks.rivals`, 16 GiB of memory, and 35 s a round and model on two cores. Every contender is
a process of its own; each round asks all of them in turn, all others stopped, so that a slow moment of the machine meets
everybody. All are float32 on all cores, and read the same pictures of 224 px. Ours includes normalisation, as it is part
of the SavedModel; ours, the converters', ONNX Runtime's and both frameworks' end in GeM, neck and a unit norm, and are timed
only where they answer with the same descriptors; hand-written networks end in averaged features. Writes
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
"""Largest difference of an entry of the unit descriptor from PyTorch's: above, a rival computes something else."""
REFERENCE = ("PyTorch", "eager")


def time_model(model: str, batches: Sequence[int], rounds: int, work: Path) -> list[dict]:
    """The rows of one variant: each contender's each form, its milliseconds or why it has none."""
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
    """An empty row of each form, and its requests: {"cases": {case: rows}} and what they share."""
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
    """Asks everybody once, untimed: graphs are built and memory is taken; {id of row: descriptor of the first picture}."""
    outputs = {}
    for row, worker, request, case in turns:
        if not row["error"]:
            answer = worker.ask(times=1, **request)
            row["error"] = answer.get("error")
            if case != PHOTO_CASE:
                outputs[id(row)] = np.array(answer.get("output"))
    return outputs


def _require_same(rows: list[dict], outputs: dict[int, np.ndarray]) -> None:
    """Writes every row's difference from PyTorch's descriptor; a time for another answer would be no time."""
    reference = next(outputs[id(row)] for row in rows if (row["peer"], row["form"]) == REFERENCE)
    for row in rows:
        if row["same_weights"] and not row["error"] and id(row) in outputs:
            row["max_abs"] = float(np.abs(outputs[id(row)] - reference).max())
            if not row["max_abs"] <= SAME:
                row["error"] = f"another answer: {row['max_abs']:.0e} from PyTorch's descriptor"


def machine() -> dict:
    """What affects the times: cores, the processor's name, and whether it has what turns oneDNN on in TensorFlow."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    name = next((line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name")), "unknown")
    return {"cores": os.cpu_count(), "processor": name, "avx512": "avx512f" in text, "vnni": "avx512_vnni" in text}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "resnest50"], help="variants of the zoo")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 8], help="pictures at a time")
    parser.add_argument("--rounds", type=int, default=30, help="times that everybody is asked")
    parser.add_argument("--work", type=Path, help="folder of exports and conversions, kept and used again")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/serving.json")
    arguments = parser.parse_args()
    environments()  # a missing one is said before anything is exported
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
