"""What re-ranking and whitening gain on test queries, with parameters that were chosen on training images.

Example:
    python -m benchmarks.rerank --set demo runs/demo/data runs/demo/embeddings --set photographs PHOTOGRAPHS EMBEDDINGS

Each set is a name, a data set and a folder with descriptors of its three splits by one model: stores `train`, `index` and `test`, as
`landmark-zoo embed` makes them, or embeddings files of these names.

What `retrieval.tune` chooses on the training set, and the best of each kind there, is measured on the scored test queries: mAP@100, and its
difference to a plain search with a 95 % interval and the p-value of the paired randomisation test. So are all whitenings that were tried there, fitted on the training set. Then the cost: a whitening of 60,000
descriptors of 2048 numbers to 512, and both steps over a whole index for 20,000. The last line of stdout is the path of the JSON file.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_files import write_results
from benchmarks.search import most_anonymous_memory, timed
from retrieval.comparison import SIGNIFICANCE, bootstrap_interval, compare, p_text
from retrieval.data.gldv2 import Gldv2
from retrieval.embeddings import squared_norms
from retrieval.exact import search
from retrieval.expansion import Expansion
from retrieval.leave_one_out import joined
from retrieval.metrics import Truth, average_precisions
from retrieval.neighbours import other_neighbours
from retrieval.ranking import Ranking
from retrieval.reciprocal import KReciprocal
from retrieval.rerank import NONE, PARTS, Reranking, apply
from retrieval.search import queries_to_search
from retrieval.solution import read_retrieval_solution
from retrieval.store import Rows, Selection, open_rows
from retrieval.tune import QUERIES, SHRINKAGES, tune
from retrieval.whitening import find_directions, fit
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.disk import temporary_folder
from zoo.strict import Count

KINDS: dict[str, set[str]] = {
    "alpha query expansion": {"expand_queries"},
    "database augmentation": {"augment_database"},
    "both": {"expand_queries", "augment_database"},
    "k-reciprocal": {"k_reciprocal"},
    "query expansion, k-reciprocal": {"expand_queries", "k_reciprocal"},
    "database augmentation, k-reciprocal": {"augment_database", "k_reciprocal"},
    "both, k-reciprocal": {"expand_queries", "augment_database", "k_reciprocal"},
}
"""The parts of a re-ranking that are used; the best parameters of each kind are measured."""
CHOSEN = "what `tune` chooses"
FITTED, WHITENED, LENGTH, INDEX = 60_000, 512, 2048, 20_000


def measure_set(data: Path, folder: Path, asked: int = QUERIES) -> dict[str, Any]:
    """The figures of one set; `asked` training images are left out."""
    dataset = Gldv2(data)
    train, index, test = (_split(folder, split) for split in ("train", "index", "test"))
    table = dataset.train()
    labels = dict(zip(table.ids, table.labels.tolist(), strict=True))
    tuned = tune(joined(labels, train, images=INDEX, seed=0), queries=asked)
    solution = read_retrieval_solution(dataset.solution_path)
    truth, queries = solution.everything, queries_to_search(test, solution)
    plain = search(index, queries)
    base = average_precisions(plain, truth)
    ways = {kind: _best(tuned.tuning["tried"], parts) for kind, parts in KINDS.items()}
    if tuned.parts() != NONE.parts():
        ways = {CHOSEN: next(one for one in tuned.tuning["tried"] if one["parameters"] == tuned.parts())} | ways
    rows = [
        _row(kind, way, base, truth, lambda parts: _reranked(index, queries, plain, parts))
        for kind, way in ways.items()
    ]
    return {
        "images": {"train": len(train.ids), "index": len(index.ids), "queries": len(truth)},
        "relevant": float(np.median([len(ids) for ids in truth.values()])),
        "chosen": {"reranking": tuned.parts(), "whitening": tuned.tuning["whitening"]["chosen"]},
        "train": {"map100": tuned.tuning["map100"], "queries": tuned.tuning["queries"]},
        "test": {"map100": float(base.mean()), "interval": bootstrap_interval(base)},
        "rows": rows,
        "whitening": measure_whitenings(train, index, queries, truth, base, tuned.tuning["whitening"]["tried"]),
    }


def measure_whitenings(
    train: Rows, index: Rows, queries: Rows, truth: Truth, base: np.ndarray, tried: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What each whitening that was tried on the training set gains on the test queries, and the same without shrinkage.

    Args:
        train, index, queries: descriptors of the three splits.
        truth: of the queries.
        base: average precision of each query without a whitening.
        tried: what `tune` tried.
    """
    directions = find_directions(train)
    gains = {tuple(one["parameters"].values()): one["difference"] for one in tried}
    found = []
    for dimensions in sorted({one["parameters"]["dimensions"] for one in tried}):
        for shrinkage in (0.0, *SHRINKAGES):
            if not shrinkage and directions.images < len(directions.mean):
                continue  # refused: the smallest variances are accidents
            whitening = directions.whitening(dimensions, shrinkage)
            ranking = search(whitening.images(index), whitening.images(queries))
            gain = compare(average_precisions(ranking, truth), base)
            row = {"dimensions": dimensions, "shrinkage": shrinkage}
            found.append(row | {"train_difference": gains.get((dimensions, shrinkage))} | gain.as_json())
    return found


def measure_cost() -> dict[str, float]:
    """Seconds, and MiB of memory beside the mapped rows."""
    found: dict[str, float] = {}
    with temporary_folder() as folder:
        rows = _synthetic(folder / "whitening.npy", FITTED)
        found |= _timed("whitening", lambda: fit(rows, WHITENED))[0]
        index = _synthetic(folder / "index.npy", INDEX)
        queries = Selection(index.ids[:500], index.rows[:500], index.squared_norms[:500], {})
        plain = search(index, queries)
        figures, known = _timed("neighbours", lambda: other_neighbours(index, 20))
        found |= figures
        for name, way in (
            ("augmentation", Reranking(augment_database=Expansion(3))),
            ("k_reciprocal", Reranking(k_reciprocal=KReciprocal(20, 6))),
        ):
            found |= _timed(name, lambda way=way: apply(index, queries, plain, way, known=known))[0]
    return found


def table(sets: dict[str, dict[str, Any]]) -> str:
    """The sets as one Markdown table."""
    lines = [
        "| | parameters, by train | gain on train | mAP@100 on test | gain on test, 95 % interval | p |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in sets.items():
        counts, test = found["images"], found["test"]
        low, high = test["interval"]
        lines.append(
            f"| **{name}**: {counts['queries']:,} queries, {counts['index']:,} index images, {counts['train']:,} training images "
            f"| no re-ranking | | {test['map100']:.4f} ({low:.3f}–{high:.3f}) | | |"
        )
        for row in found["rows"]:
            low, high = row["interval"]
            lines.append(
                f"| {row['kind']} | {_shown(row['parameters'])} | {row['train_difference']:+.4f} | {row['map100']:.4f} | "
                f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f}) | {p_text(row['p']).removeprefix('p ').removeprefix('= ')} |"
            )
    return "\n".join(lines)


def whitening_table(sets: dict[str, dict[str, Any]]) -> str:
    """What whitenings gain on the test queries as a Markdown table; a difference that is not shown is in brackets."""
    shrinkages = (0.0, *SHRINKAGES)
    lines = ["| | dimensions | " + " | ".join(f"shrinkage {shrinkage:g}" for shrinkage in shrinkages) + " |"]
    lines.append("| --- | ---: |" + " ---: |" * len(shrinkages))
    for name, found in sets.items():
        gains = {(row["dimensions"], row["shrinkage"]): row for row in found["whitening"]}
        for dimensions in sorted({dimensions for dimensions, _ in gains}):
            cells = (_gain(gains.get((dimensions, shrinkage))) for shrinkage in shrinkages)
            lines.append(f"| {name} | {dimensions} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    text = f"{row['difference']:+.3f}"
    return text if row["p"] < SIGNIFICANCE else f"({text})"


def cost_table(cost: dict[str, float]) -> str:
    """The cost as a Markdown table."""
    names = {
        "whitening": f"a whitening, {FITTED:,} × {LENGTH} → {WHITENED}",
        "neighbours": f"neighbours of all images of an index, {INDEX:,} × {LENGTH}",
        "augmentation": "database augmentation, once they are known",
        "k_reciprocal": "k-reciprocal re-ranking of 500 queries, once they are known",
    }
    lines = ["| | seconds | MiB beside the mapped rows |", "| --- | ---: | ---: |"]
    lines += [f"| {text} | {cost[name]:.1f} | {cost[f'{name}_mib']:,.0f} |" for name, text in names.items()]
    return "\n".join(lines)


def _split(folder: Path, split: str) -> Rows:
    return open_rows(path if (path := folder / split).exists() else folder / f"{split}.safetensors")


def _best(tried: Sequence[dict[str, Any]], parts: set[str]) -> dict[str, Any]:
    """The best on the training set among those that use exactly these parts."""
    kind = [one for one in tried if {name for name, part in one["parameters"].items() if part} == parts]
    return max(kind, key=lambda one: one["map100"])


def _row(
    kind: str, tuned: dict[str, Any], base: np.ndarray, truth: Truth, rank: Callable[[dict[str, Any]], Ranking]
) -> dict[str, Any]:
    precisions = average_precisions(rank(tuned["parameters"]), truth)
    found = {"kind": kind, "parameters": tuned["parameters"], "train_difference": tuned.get("difference")}
    row = found | {"map100": float(precisions.mean())} | compare(precisions, base).as_json()
    log(f"{kind}: {row['map100']:.4f} ({row['difference']:+.4f})")
    return row


def _reranked(index: Rows, queries: Rows, plain: Ranking, parts: dict[str, Any]) -> Ranking:
    return apply(
        index, queries, plain, Reranking(**{name: PARTS[name](**part) for name, part in parts.items() if part})
    )


def _synthetic(path: Path, count: int) -> Selection:
    """Mapped float16 descriptors of unit norm, of landmarks of 20 images each."""
    random = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (count, LENGTH))
    centres = random.standard_normal((count // 20, LENGTH), np.float32)
    for start in range(0, count, 4096):
        block = rows[start : start + 4096]
        made = centres[random.integers(len(centres), size=len(block))] + random.standard_normal(block.shape, np.float32)
        block[:] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return Selection([str(row) for row in range(count)], rows, squared_norms(rows), {})


def _timed(name: str, work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds and MiB of something, and its result."""
    with most_anonymous_memory() as memory:
        before = memory()
        seconds, result = timed(work)
        return {name: round(seconds, 2), f"{name}_mib": round(1024 * (memory() - before), 1)}, result


def _shown(parameters: dict[str, Any]) -> str:
    words = []
    for name, word in (("augment_database", "augment"), ("expand_queries", "expand")):
        if part := parameters[name]:
            words.append(f"{word} {part['neighbours']}, α {part['alpha']:g}")
    if part := parameters["k_reciprocal"]:
        words.append(f"k₁ {part['k1']}, k₂ {part['k2']}, λ {part['distance_weight']:g}")
    return "; ".join(words)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--set",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "DATA", "EMBEDDINGS"),
        help="a data set, and the folder of its descriptors",
    )
    parser.add_argument(
        "--queries", type=ranged(Count), default=QUERIES, help="training images that are left out; default: %(default)s"
    )
    parser.add_argument("--out", type=given_path, help="JSON to write (default: benchmarks/results/rerank.json)")
    given = parser.parse_args()
    sets = {name: measure_set(Path(data), Path(folder), given.queries) for name, data, folder in given.set}
    results = {"sets": sets, "cost": measure_cost()}
    print(table(sets))
    print(whitening_table(sets))
    print(cost_table(results["cost"]))
    print(write_results("rerank", results, given.out))


if __name__ == "__main__":
    run(main)
