"""Full-size members through every arrow, one after the other; the rows become parity_tests/results/parity.csv.

Example:
    python -m parity_tests.full_size --models resnest50 res2net200_vd

`pytest parity_tests --run-slow` does the same for all of `FULL_SIZE`. Weights are random and asymmetric; each model goes
through the whole of `export/to_savedmodel.py` from each framework, a real TensorFlow 2.2.0 included.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

from export.parity import Row
from export.to_savedmodel import FRAMEWORKS, to_savedmodel
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import save_checkpoint
from zoo.command import log, run
from zoo.files import new_file
from zoo.variants import get_spec

FULL_SIZE = (
    *("resnet50", "resnest50", "resnest101", "resnest200", "resnest269"),
    *("resnet152_vd", "resnet200", "res2net200_vd"),
)
SIZE, CHECK_SIZES = 224, (448, 512)
RESULTS = Path(__file__).with_name("results") / "parity.csv"
COLUMNS = ("model", "framework", "size", "arrow", "max_abs", "cosine", "tolerance", "seconds", "saved_model_mb")


def measure(model: str, framework: str) -> list[dict]:
    """The rows of one export; "seconds" is the whole command's, "size" the side in pixels of most of its images."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "model.safetensors")
        save_checkpoint(checkpoint, random_checkpoint(get_spec(model), seed=1, framework=framework))
        start = time.perf_counter()
        rows = to_savedmodel(checkpoint, Path(folder, "out"), size=SIZE, check_sizes=CHECK_SIZES)
        seconds = time.perf_counter() - start
        size = Path(folder, "out", "saved_model", "saved_model.pb").stat().st_size
    return [csv_row(row, model, framework, seconds, size) for row in rows]


def csv_row(row: Row, model: str, framework: str, seconds: float, size: int, side: int = SIZE) -> dict:
    """One line of the table."""
    _, _, other = row.model.partition(", ")
    figures = {"max_abs": f"{row.max_abs:.2e}", "cosine": f"{row.cosine:.12f}", "tolerance": f"{row.tolerance:.0e}"}
    cost = {"seconds": f"{seconds:.0f}", "saved_model_mb": f"{size / 1e6:.1f}"}
    place = {"model": model, "framework": framework, "size": int(other.removesuffix(" px") or side), "arrow": row.arrow}
    return place | figures | cost


def merge(rows: list[dict], path: Path = RESULTS) -> None:
    """Replaces the rows of the same model and framework, keeps all others."""
    new = {(row["model"], row["framework"]) for row in rows}
    kept = [row for row in read(path) if (row["model"], row["framework"]) not in new]
    with new_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda row: (row["model"], row["framework"])))


def read(path: Path = RESULTS) -> list[dict]:
    """The table's rows; none where it has not been written yet."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=FULL_SIZE, help="variants of the zoo")
    parser.add_argument("--frameworks", nargs="+", default=FRAMEWORKS, choices=FRAMEWORKS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for model in arguments.models:
        for framework in arguments.frameworks:
            rows = measure(model, framework)
            merge(rows, arguments.out)
            log("\n".join(f"{r['model']} {r['framework']} {r['size']} px {r['arrow']}: {r['max_abs']}" for r in rows))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
