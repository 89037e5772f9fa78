"""Exports full-size members with random weights and writes their parity rows and times.

Example:
    python -m benchmarks.full_size --models resnet50 --size 224 --out benchmarks/results/full_size.json

Each model goes through the whole of `export/to_savedmodel.py` from each framework, a real TensorFlow 2.2.0 included.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from export import parity
from export.to_savedmodel import FRAMEWORKS, to_savedmodel
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import save_checkpoint
from zoo.command import log, run
from zoo.files import write_json
from zoo.specs import get_spec


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50"], help="variants of the zoo")
    parser.add_argument("--size", type=int, default=224, help="side in pixels that served images are resized to")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/full_size.json"))
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for model in arguments.models:
        for framework in FRAMEWORKS:
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = Path(folder, "model.safetensors")
                save_checkpoint(checkpoint, random_checkpoint(get_spec(model), seed=1, framework=framework))
                start = time.perf_counter()
                rows = to_savedmodel(checkpoint, Path(folder, "out"), size=arguments.size)
                seconds = round(time.perf_counter() - start, 1)
                size = Path(folder, "out", "saved_model", "saved_model.pb").stat().st_size
            results[f"{model} ({framework})"] = {
                "size": arguments.size,
                "seconds": seconds,
                "saved_model_bytes": size,
                "parity": parity.to_json(rows),
            }
            log("\n".join(map(str, rows)))
            write_json(arguments.out, results)
    print(arguments.out)


if __name__ == "__main__":
    run(main)
