"""Images per second that a store is filled with, against the bare SavedModel and in several processes.

Example:
    python -m benchmarks.embed --photographs PHOTOS

PHOTOS is a folder with photographs, at any depth; JPEGs of 800 × 600 pixels are made of them (`benchmarks.data`). All contenders run in one
go, on the same files and the same SavedModel with random weights:

- bare: batches that are ready in memory, through the SavedModel's batch signature in this process; nothing is read.
- embed: `retrieval.embed_split.embed_split` in this process: reads, decodes, resizes, computes, writes and flushes.
- of which reading, decoding and resizing: the same loop with a model that does nothing.
- as a command: `landmark-zoo embed` with its start, two shards of one thread each, and `--cluster local` with Ray's start. Their rows must
  equal those of `embed` to the bit.

The last line of stdout is the path of the JSON file with all figures.
"""

import argparse
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import SUFFIXES, make_set
from benchmarks.results_files import write_results
from export.embedder import SavedModelDescriber
from parity_tests.random_weights import random_checkpoint
from retrieval.data.gldv2 import Gldv2
from retrieval.data.sources import open_source
from retrieval.describer import Describer
from retrieval.embed_split import embed_split
from retrieval.image_batches import BATCH_SIZE, Batch, StoredImages, batches
from zoo import contest
from zoo.arguments import given_path, ranged
from zoo.checkpoint import save_checkpoint
from zoo.command import log, run
from zoo.disk import temporary_folder
from zoo.errors import DataError
from zoo.processes import module_command, module_environment, run_module
from zoo.strict import Count
from zoo.variants import get_spec

MODELS = (("resnet50", 224), ("resnest14_narrow", 80))


class Nothing:
    """A model that only takes its batches."""

    def __init__(self, like: Describer) -> None:
        self.inputs, self.source = like.inputs, {"model": "nothing"}

    def __call__(self, batch: Batch) -> np.ndarray:
        return np.ones((len(batch[self.inputs[0]]), 1), np.float32)


def saved_model(name: str, size: int, folder: Path) -> Path:
    """A SavedModel of a network with random weights."""
    checkpoint = folder / f"{name}.safetensors"
    save_checkpoint(checkpoint, random_checkpoint(get_spec(name), seed=1, framework="torch"))
    out = folder / name
    done = run_module(
        *("export.to_savedmodel", "--ckpt", checkpoint, "--size", size, "--no-verify", "--out", out),
        capture_output=True,
    )
    if done.returncode:
        raise DataError(f"{name} could not be exported: {done.stderr.strip()[-500:]}")
    return out / "saved_model"


def seconds(call: Any) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def bare(describer: Describer, data: Gldv2, count: int) -> float:
    """Seconds of the model alone for `count` images, on batches that are ready."""
    ids = data.readable_ids("train")[: 4 * BATCH_SIZE]
    ready = list(
        batches(StoredImages(open_source(data, "train"), ids), describer.inputs, BATCH_SIZE, os.cpu_count() or 1)
    )
    describer(ready[0])

    def once() -> None:
        for number in range(-(-count // BATCH_SIZE)):
            describer(ready[number % len(ready)])

    return seconds(once)


def command(model: Path, data: Path, out: Path, *options: str, threads: int | None = None) -> subprocess.Popen:
    """`python -m export.embed` on the training split."""
    environment = module_environment()
    if threads:
        environment |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    words = module_command("export.embed", model, "--data", data, "--split", "train", "--out", out, *options)
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished(*processes: subprocess.Popen) -> None:
    """Waits for commands.

    Raises:
        DataError: one failed.
    """
    if any(process.wait() for process in processes):
        raise DataError("a command of the benchmark failed; run it by itself to see why.")


def measure(name: str, size: int, data: Gldv2, count: int, folder: Path) -> dict[str, Any]:
    """Images per second of every contender, for one network."""
    model = saved_model(name, size, folder)
    describer = SavedModelDescriber(model)
    out = {how: folder / f"{name}-{how}" for how in ("embed", "nothing", "command", "shards", "cluster")}
    found = {"bare": bare(describer, data, count)}
    found["embed"] = seconds(lambda: embed_split(describer, data, "train", out["embed"]))
    found["bare, again"] = bare(describer, data, count)
    found["reading"] = seconds(lambda: embed_split(Nothing(describer), data, "train", out["nothing"]))
    found["command"] = seconds(lambda: finished(command(model, data.root, out["command"])))
    found["two shards"] = seconds(
        lambda: finished(*(command(model, data.root, out["shards"], "--shard", f"{n}/2", threads=1) for n in (0, 1)))
    )
    found["Ray"] = seconds(lambda: finished(command(model, data.root, out["cluster"], "--cluster", "local")))
    expected = (out["embed"] / "rows.npy").read_bytes()
    rates = {how: round(count / taken, 1) for how, taken in found.items()}
    log(f"{name}: {rates}")
    return {
        "model": name,
        "size": size,
        "images_per_second": rates,
        "same_rows": {
            how: (out[how] / "rows.npy").read_bytes() == expected for how in ("command", "shards", "cluster")
        },
    }


def share(row: dict[str, Any]) -> float:
    """Images per second of `embed` as a share of the bare model's, whose mean before and after counts."""
    rates = row["images_per_second"]
    return rates["embed"] / np.mean([rates["bare"], rates["bare, again"]])


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| network | bare SavedModel | embed | share | reading, decoding, resizing alone | command with its start | two shards | Ray, with its start | same rows | hours for the contest |",
        "| --- |" + " ---: |" * 9,
    ]
    for row in results["rows"]:
        rates = row["images_per_second"]
        cells = [
            f"{row['model']}, {row['size']} px",
            f"{rates['bare']:g} and {rates['bare, again']:g}",
            f"{rates['embed']:g}",
            f"{share(row):.2f}",
            *(f"{rates[how]:g}" for how in ("reading", "command", "two shards", "Ray")),
            "to the bit" if all(row["same_rows"].values()) else "**no**",
            f"{contest.IMAGES / rates['embed'] / 3600:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photographs", type=given_path, required=True, metavar="DIR", help="photographs, at any depth"
    )
    parser.add_argument("--images", type=ranged(Count), default=1200, help="JPEGs to make; default: %(default)s")
    parser.add_argument("--out", type=given_path, help="JSON to write (default: benchmarks/results/embed.json)")
    given = parser.parse_args()
    photographs = sorted(path for path in given.photographs.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not photographs:
        raise DataError(f"{given.photographs} holds no files of the kinds {', '.join(SUFFIXES)}; expected photographs.")
    with temporary_folder() as folder:
        data = folder / "data"
        data.mkdir()
        make_set(photographs, data, 800, 600, given.images)
        rows = [measure(name, size, Gldv2(data), given.images, folder) for name, size in MODELS]
    results = {"images": given.images, "cores": os.cpu_count(), "rows": rows}
    print(table(results))
    print(write_results("embed", results, given.out))


if __name__ == "__main__":
    run(main)
