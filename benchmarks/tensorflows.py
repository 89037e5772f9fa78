"""Compares the checker's verdicts with every TensorFlow from 2.2 on, or with some of them.

Examples:
    python -m benchmarks.tensorflows                  # all: 25 minutes on two cores, and 20 GB of environments, which stay
    python -m benchmarks.tensorflows --tf 2.13 2.17   # only these; what was measured of the others is kept

Writes benchmarks/results/tensorflows.json (`export/checker/prove.py`).
"""

import argparse
from dataclasses import asdict
from typing import Any

from benchmarks.results_files import FOLDER, read_results, write_results
from export.checker.prove import Disagreement, Proof, prove_all
from export.checker.prove import table as proof_table
from export.tensorflows import WHEELS
from zoo.command import run

FIRST = list(WHEELS).index("2.2.0")
"""Older ones run no function that is called by the names of its inputs, as the contest's."""


def merged(kept: list[dict], new: list[dict]) -> list[dict]:
    """Rows of each TensorFlow, the new ones in the place of older ones, oldest version first."""
    measured = {row["tensorflow"] for row in new}
    rows = [row for row in kept if row["tensorflow"] not in measured] + new
    return sorted(rows, key=lambda row: ([int(part) for part in row["tensorflow"].split(".")], row["onednn"]))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row per TensorFlow, with and without oneDNN, and the disagreements."""
    return proof_table(
        Proof(**{**row, "disagreements": [Disagreement(**one) for one in row["disagreements"]]}) for row in rows
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tf", nargs="+", default=list(WHEELS)[FIRST:], metavar="VERSION")
    rows = [asdict(proof) for proof in prove_all(parser.parse_args().tf)]
    kept = read_results("tensorflows") if (FOLDER / "tensorflows.json").exists() else []
    rows = merged(kept, rows)
    print(table(rows))
    print(write_results("tensorflows", rows))


if __name__ == "__main__":
    run(main)
