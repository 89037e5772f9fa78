"""Seconds to score a ranking of the contest's size, against a plain port of the metrics' definition.

Example:
    python -m benchmarks.score

The ranking is made up: by default 100,000 queries with 100 hits each in an index of 761,757 images, and a ground truth with a long tail
(median 7 relevant images, a mean of about 60). Contenders, in turn, the best of several passes; the port has one:

- plain port, lists: `benchmarks.delf_definition`, mAP@100 alone, the truth as lists, which are searched as DELF does.
- plain port, sets: the same with sets.
- ours, ids: `retrieval.metrics` on a predictions mapping, as read from a file; all of the contest's figures.
- ours, rows: the same figures of a search's row numbers, once the truth is known as rows of the index.
- truth to rows: what that takes, once for any number of rankings.

The last line of stdout is the path of the JSON file with all figures.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import delf_definition as delf
from benchmarks.results_files import write_results
from retrieval.metrics import CONTEST_K
from retrieval.right_hits import RightHits, TruthRows, of_ids
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.strict import Count, NonNegativeInt

LISTS, SETS, IDS, ROWS, ONCE = "plain port, lists", "plain port, sets", "ours, ids", "ours, rows", "truth to rows"
SECONDS, RATIO = 0.5, 15
"""Targets for row numbers: at most so many seconds for 100,000 queries, and so many times faster than the port with lists."""
MOST_RELEVANT = 5000


@dataclass(frozen=True)
class Case:
    """A made-up ranking: ids of images and of queries, rows of the index [q, 100], and each query's relevant rows."""

    images: list[str]
    queries: list[str]
    rows: np.ndarray
    relevant: list[np.ndarray]


def make_case(queries: int, images: int, seed: int = 0) -> Case:
    """Rankings that find more of what is relevant at the first ranks than at the last; mAP@100 is about a third."""
    random = np.random.default_rng(seed)
    sizes = np.minimum(1 + (6 * random.pareto(0.9, queries)).astype(np.int64), min(MOST_RELEVANT, images))
    relevant = [np.unique(random.integers(images, size=size)) for size in sizes]
    rows = random.integers(images, size=(queries, CONTEST_K), dtype=np.int32)
    ranks = np.arange(CONTEST_K)
    for own, hits in zip(relevant, rows, strict=True):
        found = np.flatnonzero(random.random(CONTEST_K) < 0.6 * np.exp(-ranks / max(3, len(own))))
        hits[found] = own[random.integers(len(own), size=len(found))]
    return Case(list(map(_name, range(images))), list(map(_name, range(queries))), rows, relevant)


def _name(number: int) -> str:
    """An id; each is a text of its own, as those of a file are."""
    return f"{number:016x}"


def figures(right: RightHits) -> tuple[float, float, float]:
    """mAP@100, P@10 and the median position: everything that the contest's score needs."""
    precisions = right.average_precisions()
    return float(precisions.mean()), float(right.mean_precisions()[9]), float(np.median(right.positions()))


def measure(case: Case, passes: int) -> dict[str, Any]:
    """Seconds of each contender by name, and mAP@100, on which all agree."""
    hits = {query: tuple(map(_name, own.tolist())) for query, own in zip(case.queries, case.rows, strict=True)}
    truth = {query: list(map(_name, own.tolist())) for query, own in zip(case.queries, case.relevant, strict=True)}
    sets = {query: set(own) for query, own in truth.items()}
    seconds, scores = {}, {}

    def timed(name: str, once: Callable[[], Any], times: int) -> Any:
        best, made = float("inf"), None
        for _ in range(times):
            began = time.perf_counter()
            made = once()
            best = min(best, time.perf_counter() - began)
        seconds[name] = best
        log(f"{name:20} {best:8.3f} s")
        return made

    for name, own in ((LISTS, truth), (SETS, sets)):
        scores[name] = timed(name, lambda own=own: delf.mean_average_precision(hits, own, CONTEST_K), 1)
    scores[IDS], *_ = timed(IDS, lambda: figures(of_ids(hits, truth, CONTEST_K)), passes)
    rows = timed(ONCE, lambda: TruthRows(truth, case.queries, case.images), min(3, passes))
    scores[ROWS], *_ = timed(ROWS, lambda: figures(rows.right_hits(case.rows, CONTEST_K)), passes)
    if max(scores.values()) - min(scores.values()) > 1e-12:
        raise AssertionError(f"the contenders do not agree: {scores}")
    sizes = [len(own) for own in case.relevant]
    return {
        "queries": len(case.queries),
        "images": len(case.images),
        "relevant": {"mean": float(np.mean(sizes)), "median": float(np.median(sizes))},
        "cores": os.cpu_count(),
        "map100": scores[ROWS],
        "seconds": seconds,
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    seconds = results["seconds"]
    lines = [
        f"{results['queries']:,} queries × {CONTEST_K} hits, {results['images']:,} images, {results['relevant']['mean']:.0f} relevant ones "
        f"per query (median {results['relevant']['median']:.0f}), {results['cores']} cores.",
        "",
        "| | seconds | port with lists / this | target |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, taken in seconds.items():
        ratio = "–" if name == ONCE else f"{seconds[LISTS] / taken:.1f}"
        lines.append(f"| {name} | {taken:.2f} | {ratio} | {_target(results) if name == ROWS else '–'} |")
    return "\n".join(lines)


def _target(results: dict[str, Any]) -> str:
    seconds = results["seconds"]
    met = seconds[ROWS] <= SECONDS * results["queries"] / 100_000 and seconds[LISTS] >= RATIO * seconds[ROWS]
    return f"{SECONDS} s, {RATIO} ×: {'met' if met else '**missed**'}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=ranged(NonNegativeInt), default=100_000, help="default: %(default)s")
    parser.add_argument("--images", type=ranged(NonNegativeInt), default=761_757, help="default: %(default)s")
    parser.add_argument(
        "--passes", type=ranged(Count), default=7, help="of ours; the best counts; default: %(default)s"
    )
    parser.add_argument("--out", type=given_path, help="JSON to write (default: benchmarks/results/score.json)")
    given = parser.parse_args()
    results = measure(make_case(max(1, given.queries), max(1, given.images)), given.passes)
    print(table(results))
    print(write_results("score", results, given.out))


if __name__ == "__main__":
    run(main)
