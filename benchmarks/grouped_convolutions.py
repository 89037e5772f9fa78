"""Measures the cheapest form of a convolution with many groups in TensorFlow 2.2 and in the current TensorFlow.

Example:
    python -m benchmarks.grouped_convolutions

TensorFlow 2.2 has no grouped convolution on CPUs, so the normal form replaces it by dense ones: one per group, a
few block-diagonal ones, or a single one that is mostly zeros. Writes benchmarks/results/grouped_convolutions.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.results_files import write_results
from export import tf22
from zoo.command import log, run
from zoo.errors import MissingToolError

WORKER = Path(__file__).with_name("grouped_convolutions_worker.py")
LAYERS = [
    *(
        (name, 4 * groups * 2**i, groups, 56 // 2**i)
        for name, groups in (("32x4d", 32), ("64x4d", 64))
        for i in range(4)
    ),
    *(("32x8d", 256 * 2**i, 32, 56 // 2**i) for i in range(4)),
]
"""Name, channels, groups and side of the feature map in layer1 … layer4 of ResNeXt at 224 px."""


def blocks_of(groups: int) -> list[int]:
    """1, 2, 4 … groups."""
    return [2**power for power in range(groups.bit_length())]


def measure(python: str) -> list[dict]:
    """Milliseconds of every layer in every form."""
    cases = [(c, groups, side, blocks) for _, c, groups, side in LAYERS for blocks in blocks_of(groups)]
    done = subprocess.run([python, str(WORKER), json.dumps(cases)], capture_output=True, text=True, check=True)
    times = iter(json.loads(done.stdout.splitlines()[-1]))
    return [
        {"layer": name, "channels": c, "groups": g, "side": side, "ms": {str(b): next(times) for b in blocks_of(g)}}
        for name, c, g, side in LAYERS
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/grouped_convolutions.json")
    arguments = parser.parse_args()
    python = tf22.find_python()
    if python is None:
        raise MissingToolError("TensorFlow 2.2 is not installed; run `make tf22` first")
    results = {"tf 2.2": measure(str(python)), "current tf": measure(sys.executable)}
    for name, rows in results.items():
        for row in rows:
            log(f"{name:10} {row['layer']} {row['channels']:5} channels, {row['side']:2} px: {row['ms']}")
    print(write_results("grouped_convolutions", results, arguments.out))


if __name__ == "__main__":
    run(main)
