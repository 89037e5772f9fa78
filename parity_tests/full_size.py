"""Full-size members through every arrow, one after the other; the rows become parity_tests/results/parity.csv.

Example:
    python -m parity_tests.full_size --models resnest50 res2net200_vd

`pytest parity_tests --run-slow` does the same for all of `FULL_SIZE`. Weights are random and asymmetric; each model goes
through the whole of `export/to_savedmodel.py` from each framework, a real TensorFlow 2.2.0 included.
"""

import argparse
import tempfile
from pathlib import Path

from export.to_savedmodel import to_savedmodel
from parity_tests.random_weights import random_checkpoint
from parity_tests.results_table import RESULTS, csv_row, merge
from zoo.checkpoint import save_checkpoint
from zoo.command import log, run
from zoo.constants import FRAMEWORKS
from zoo.variants import get_spec

FULL_SIZE = (
    *("resnet50", "resnest50", "resnest101", "resnest200", "resnest269"),
    *("resnet152_vd", "resnet200", "res2net200_vd"),
)
SIZE, CHECK_SIZES = 224, (448, 512)


def measure(model: str, framework: str) -> list[dict]:
    """The rows of one export; each with the side in pixels of its images."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "model.safetensors")
        save_checkpoint(checkpoint, random_checkpoint(get_spec(model), seed=1, framework=framework))
        rows = to_savedmodel(checkpoint, Path(folder, "out"), size=SIZE, check_sizes=CHECK_SIZES)
        saved_model = Path(folder, "out", "saved_model")
        return [csv_row(row, model, "full size", framework, row.size or SIZE, saved_model) for row in rows]


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
