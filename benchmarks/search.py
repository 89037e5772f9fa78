"""The exact search against the machine's matrix product and against faiss, and what the contest's size would take.

Examples:
    python -m benchmarks.search
    python -m benchmarks.search --full --contest-queries 16384

Descriptors are synthetic: four members' parts of 512 entries, landmarks whose numbers of images have a long tail, cosines of about .6 at
rank 1 and .35 at rank 100, rounded to float16 in a file that is mapped. Measured are

- sgemm: numpy's product of a block and queries of the search's sizes, all of its calls in a row: what the processors can do.
- ours: `retrieval.search.search`, from the mapped file to the ranking, and the most anonymous memory of the process while it runs.
- ours, bfloat16: the same with `device="bfloat16"`, on processors that are fast with it; the ranking is the same.
- faiss IndexFlatL2: from float32 rows in memory, as its wheel comes, adding the rows not counted. How far it is from ours depends on the
  processor: the wheels of faiss 1.15 bring OpenBLAS 0.3.15 of 2021, which takes its oldest instructions on a processor that it does not
  know. The table says which kernels each BLAS has chosen.

These take turns, and the best of several rounds counts.
- faiss IVF: its time a query without training and filling, the share of the exact 100 neighbours it finds, and mAP@100.

`--contest-queries N` makes a file of the contest's index (761,757 × 2048, 3.1 GB, in the folder for temporary files), searches it for N of
the 117,577 queries, and extrapolates: time in proportion to the queries, memory as measured, with a whole group of queries and all results.
"""

import argparse
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from threadpoolctl import threadpool_info

from benchmarks.results_files import write_results
from retrieval.approximate import approximate_index, approximate_search
from retrieval.bounds import EXTRA
from retrieval.candidates import QUERIES
from retrieval.devices import BFLOAT16, choose_device
from retrieval.embeddings import squared_norms
from retrieval.exact import BLOCK, GROUP, SLACK, WORTHWHILE
from retrieval.metrics import Truth, mean_average_precision
from retrieval.ranking import Ranking
from retrieval.search import search
from retrieval.store import Selection
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.disk import require_room, temporary_folder
from zoo.strict import Count

MEMBERS, PART, LATENT = 4, 512, 16
DIMENSIONS = MEMBERS * PART
RELATED = 0.6
"""Expected cosine of two images of one landmark."""
INDEX, TEST = 761_757, 117_577
"""Images of the contest's index and its queries."""
QUICK, FULL = (32_768, 1024), (131_072, 4096)
"""Index images and queries."""
IVF = (("IVF256,Flat", 8), ("IVF256,Flat", 32), ("IVF256,SQfp16", 32))
IVF_FULL = (("IVF1024,Flat", 8), ("IVF1024,Flat", 32), ("IVF1024,Flat", 128), ("IVF1024,SQfp16", 32))
K = 100
ROUNDS = 3
_WRITTEN = 8192
_WATCHED_SECONDS = 0.02
_RESULT_BYTES = 24
"""Of a neighbour: int64 and float64, from which int32 and float32 are made."""


def make_landmarks(images: int, seed: int) -> np.ndarray:
    """A landmark's number for each image, int64 [images]; the numbers of images per landmark fall like 1 / rank."""
    weights = 1 / (np.arange(max(2, images // 25)) + 10)
    return np.random.default_rng(seed).choice(len(weights), images, p=weights / weights.sum())


def descriptors(landmarks: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """float16 [images, 2048] of unit norm before rounding; images of one landmark are similar in each member's part.

    Args:
        landmarks: of the images.
        seed: of what is particular to an image; landmarks look the same with any seed.
    """
    fixed, own = np.random.default_rng(1), np.random.default_rng(seed)
    made = np.empty((len(landmarks), DIMENSIONS), np.float16)
    for member in range(MEMBERS):
        plane = fixed.standard_normal((LATENT, PART), dtype=np.float32)
        looks = _unit(fixed.standard_normal((INDEX // 25, LATENT), dtype=np.float32))[landmarks]
        image = _unit(own.standard_normal((len(landmarks), LATENT), dtype=np.float32))
        latent = looks * np.float32(RELATED**0.5) + image * np.float32((1 - RELATED) ** 0.5)
        made[:, member * PART : (member + 1) * PART] = _unit(latent @ plane) * np.float32(MEMBERS**-0.5)
    return made


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def mapped(folder: Path, name: str, landmarks: np.ndarray) -> Selection:
    """Descriptors in a file, written in blocks and mapped."""
    path = folder / f"{name}.npy"
    require_room(path, 2 * DIMENSIONS * len(landmarks))
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (len(landmarks), DIMENSIONS))
    norms = np.empty(len(landmarks))
    for start in range(0, len(landmarks), _WRITTEN):
        block = descriptors(landmarks[start : start + _WRITTEN], (2, len(name), start))
        rows[start : start + _WRITTEN], norms[start : start + _WRITTEN] = block, squared_norms(block)
    rows.flush()
    del rows
    ids = [f"{name[0]}{row}" for row in range(len(landmarks))]
    return Selection(ids, np.load(path, mmap_mode="r"), norms, {})


def sgemm_rate(queries: int, blocks: int) -> float:
    """GFLOP/s of numpy's product of `blocks` blocks with `queries` queries, of the sizes that the search multiplies."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((BLOCK, DIMENSIONS + EXTRA), dtype=np.float32)
    part = rng.standard_normal((min(QUERIES, queries), DIMENSIONS + EXTRA), dtype=np.float32)
    out = np.empty((len(part), BLOCK), np.float32)
    calls = max(4, blocks * queries // len(part))
    np.matmul(part, block.T, out=out)
    seconds, _ = timed(lambda: [np.matmul(part, block.T, out=out) for _ in range(calls)])
    return calls * 2e-9 * len(part) * BLOCK * DIMENSIONS / seconds


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


@contextmanager
def most_anonymous_memory() -> Iterator[Callable[[], float]]:
    """Watches this process; yields a function that returns the most anonymous memory until now, in GiB."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(_WATCHED_SECONDS):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(peak[0], _anonymous()) / 2**20
    finally:
        done.set()
        watcher.join()


def _anonymous() -> int:
    """RssAnon of this process in KiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0])


def measure(images: int, queries: int, ivf: tuple[tuple[str, int], ...], folder: Path) -> dict[str, Any]:
    """Ours, sgemm before and after, and faiss, for one size."""
    own = make_landmarks(images, 0), make_landmarks(images, 1)[:queries]
    index, asked = (mapped(folder, name, landmarks) for name, landmarks in zip(("index", "queries"), own, strict=True))
    truth = _truth(*own, index, asked)
    operations = 2e-9 * images * queries * DIMENSIONS
    with most_anonymous_memory() as memory:
        exact = search(index, asked)  # reads the file for the first time, so it is not timed
        gib = memory()
    flat, float32 = flat_index(index), asked.rows.astype(np.float32)
    contenders = {"ours": partial(search, index, asked), "flat": partial(flat.search, float32, K)}
    if choose_device("auto") == BFLOAT16 and images * queries * DIMENSIONS >= WORTHWHILE:
        contenders["bfloat16"] = partial(search, index, asked, device=BFLOAT16)
        if (contenders["bfloat16"]().rows != exact.rows).any():
            raise AssertionError("bfloat16 candidates gave another ranking")
    best = dict.fromkeys(("sgemm", *contenders), np.inf)
    for number in range(ROUNDS):
        seconds = {"sgemm": operations / sgemm_rate(queries, images // BLOCK)}
        seconds |= {name: timed(work)[0] for name, work in contenders.items()}
        best = {name: min(value, seconds[name]) for name, value in best.items()}
        rates = ", ".join(f"{name} {operations / value:.0f}" for name, value in seconds.items())
        log(f"round {number + 1}: {rates} GFLOP/s")
    other = [len(np.setdiff1d(a, b)) > 0 for a, b in zip(flat.search(float32, K)[1], exact.rows, strict=True)]
    similarities = 1 - exact.distances.astype(np.float64) ** 2 / 2
    return {
        "images": images,
        "queries": queries,
        "seconds": best,
        "gflops": {name: operations / value for name, value in best.items()},
        "anonymous_gib": gib,
        "flat_other_sets": float(np.mean(other)),
        "map100": mean_average_precision(exact, truth),
        "cosines": {
            rank: float(np.median(similarities[:, rank - 1]))
            for rank in (
                1,
                K,
            )
        },
        "ivf": [measure_ivf(index, asked, exact, truth, *row) for row in ivf],
    }


def flat_index(index: Selection) -> Any:
    """faiss's own exact index."""
    made = faiss.IndexFlatL2(DIMENSIONS)
    for start in range(0, len(index.ids), _WRITTEN):
        made.add(index.rows[start : start + _WRITTEN].astype(np.float32))
    return made


def measure_ivf(
    index: Selection, queries: Selection, exact: Ranking, truth: Truth, factory: str, nprobe: int
) -> dict[str, Any]:
    """An inverted file of faiss: what it finds, and its time without training and filling."""
    building, made = timed(lambda: approximate_index(index, factory, f"nprobe={nprobe}"))
    asked = queries.rows.astype(np.float32)
    seconds, _ = timed(lambda: made.search(asked, K))
    found = approximate_search(index, queries, made)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found.rows, exact.rows, strict=True)]
    row = {
        "factory": factory,
        "nprobe": nprobe,
        "recall100": float(np.mean(shared)) / K,
        "map100": mean_average_precision(found, truth),
        "ms": 1000 * seconds / len(queries.ids),
        "building_seconds": building,
    }
    log(f"{factory}, nprobe {nprobe}: recall {row['recall100']:.3f}, {row['ms']:.2f} ms a query")
    return row


def measure_contest(queries: int, folder: Path) -> dict[str, Any]:
    """The whole index of the contest, mapped, and some of its queries."""
    log(f"writing {INDEX:,} × {DIMENSIONS} float16")
    index = mapped(folder, "index", make_landmarks(INDEX, 0))
    asked = mapped(folder, "queries", make_landmarks(INDEX, 1)[:queries])
    device = choose_device("auto")
    with most_anonymous_memory() as memory:
        seconds, _ = timed(lambda: search(index, asked, device=device))
        gib = memory()
    group = max(0, GROUP - queries) * (4 * (DIMENSIONS + EXTRA) + 12 * (K + SLACK))
    results = (TEST - queries) * K * _RESULT_BYTES
    return {
        "queries": queries,
        "device": device,
        "seconds": seconds,
        "gflops": 2e-9 * INDEX * queries * DIMENSIONS / seconds,
        "anonymous_gib": gib,
        "all_minutes": seconds / queries * TEST / 60,
        "all_anonymous_gib": gib + (group + results) / 2**30,
    }


def _truth(index_landmarks: np.ndarray, query_landmarks: np.ndarray, index: Selection, queries: Selection) -> Truth:
    """Query id → ids of the index images of its landmark, for queries that have some."""
    order = np.argsort(index_landmarks, kind="stable")
    first, last = (np.searchsorted(index_landmarks[order], query_landmarks, side=side) for side in ("left", "right"))
    found = {
        queries.ids[q]: [index.ids[int(row)] for row in order[a:b]]
        for q, (a, b) in enumerate(zip(first, last, strict=True))
    }
    return {query: images for query, images in found.items() if images}


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    one = results["part"]
    rates, ms = one["gflops"], {name: 1000 * value / one["queries"] for name, value in one["seconds"].items()}
    lines = [
        f"{one['images']:,} index images × {one['queries']:,} queries × {DIMENSIONS}-D on {results['processor']}, {results['threads']} threads:",
        "",
        "| | GFLOP/s | of sgemm | ms a query | recall@100 | mAP@100 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        f"| numpy's sgemm alone | {rates['sgemm']:.0f} | 1 | {ms['sgemm']:.2f} | | |",
    ]
    names = {
        "ours": "**ours, exact**",
        "bfloat16": "**ours, exact, bfloat16**",
        "flat": "faiss IndexFlatL2 as its wheel comes",
    }
    found = {"ours": "1", "bfloat16": "1", "flat": f"another set for {one['flat_other_sets']:.1%} of the queries"}
    lines += [
        f"| {title} | {rates[name]:.0f} | {rates[name] / rates['sgemm']:.2f} | {ms[name]:.2f} | {found[name]} | {one['map100']:.3f} |"
        for name, title in names.items()
        if name in rates
    ]
    lines += [
        f"| faiss {row['factory']}, nprobe {row['nprobe']} | | | {row['ms']:.2f} | {row['recall100']:.2f} | {row['map100']:.3f} |"
        for row in one["ivf"]
    ]
    lines += [
        "",
        f"Ours is {max(rates['ours'], rates.get('bfloat16', 0)) / rates['flat']:.1f} times as fast as IndexFlatL2 and takes "
        f"{one['anonymous_gib']:.2f} GiB of anonymous memory. "
        f"BLAS: {'; '.join(results['blas']) or 'not known'}.",
    ]
    if whole := results.get("contest"):
        lines.append(
            f"The contest's index, {INDEX:,} × {DIMENSIONS} float16 in a mapped file, for {whole['queries']:,} queries on {whole['device']}: {whole['seconds']:.0f} s, "
            f"{whole['gflops']:.0f} GFLOP/s, {whole['anonymous_gib']:.2f} GiB; extrapolated to all {TEST:,}: {whole['all_minutes']:.0f} minutes, "
            f"{whole['all_anonymous_gib']:.2f} GiB."
        )
    if results["settings"]:
        lines.append(f"Set in the environment: {', '.join(results['settings'])}.")
    return "\n".join(lines)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _blas() -> list[str]:
    """Versions of OpenBLAS in this process, by the package that brought them, and the kernels that they chose."""
    return [
        f"{Path(found['filepath']).parent.name.partition('.')[0]} has OpenBLAS {found['version']} with kernels for {found['architecture']}"
        for found in threadpool_info()
        if found["internal_api"] == "openblas"
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="131,072 images × 4,096 queries; default: 32,768 × 1,024")
    parser.add_argument(
        "--contest-queries", type=ranged(Count), help="queries for the contest's whole index; default: not measured"
    )
    parser.add_argument("--out", type=given_path, help="JSON to write (default: benchmarks/results/search.json)")
    given = parser.parse_args()
    results: dict[str, Any] = {
        "processor": _processor(),
        "blas": _blas(),
        "threads": faiss.omp_get_max_threads(),
        "settings": [
            f"{name}={os.environ[name]}" for name in ("OPENBLAS_CORETYPE", "OMP_NUM_THREADS") if name in os.environ
        ],
    }
    with temporary_folder() as folder:
        results["part"] = measure(*(FULL if given.full else QUICK), IVF_FULL if given.full else IVF, folder)
    if given.contest_queries:
        with temporary_folder() as folder:
            results["contest"] = measure_contest(given.contest_queries, folder)
    print(table(results))
    print(write_results("search", results, given.out))


if __name__ == "__main__":
    run(main)
