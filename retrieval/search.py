"""Exact nearest neighbours by Euclidean distance, as the contest's scorer ranks, and the metrics of the ranking."""

import argparse
import json
import os
import sys
from pathlib import Path

import faiss
import numpy as np

from retrieval.data.gldv2 import Gldv2
from retrieval.embeddings import Embeddings
from retrieval.metrics import CONTEST_K, score
from retrieval.provenance import require_same_model
from retrieval.ranking import Ranking, write_predictions
from retrieval.solution import NO_SOLUTION, read_retrieval_solution, require_known, require_relevant_in_index
from zoo.arguments import given_path
from zoo.command import log, run
from zoo.disk import require_room
from zoo.errors import DataError
from zoo.files import output_file

HELP = """\
python -m retrieval.search --index index.safetensors --queries test.safetensors --data DIR --out predictions.csv

Ranks the 100 nearest index images for each query, writes them as a contest predictions file (id,images) and prints
mAP@100, P@1, P@10 and the median position of the first right image. DIR holds retrieval_solution_v2.1.csv; without --data
only the predictions are written.
"""


def search(index: Embeddings, queries: Embeddings, k: int = CONTEST_K) -> Ranking:
    """Ranks the index for each query and keeps the min(k, n) nearest; equal distances keep the index's order.

    faiss (exact, float32) selects candidates, for large batches by ‖x‖² + ‖y‖² - 2x·y, which loses digits if x and y are
    close. So it selects more than k, and their distances are computed again in float64 as ‖x - y‖.

    Raises:
        DataError: k is below 1, one of the two is empty, their descriptors differ in size or were made by different
            models, or a distance overflows float32.
    """
    n, dimension = index.descriptors.shape
    if k < 1:
        raise DataError(f"expected at least 1 neighbour per query, found {k}")
    if not n or not len(queries.ids):
        raise DataError(f"expected images on both sides, found {n} in the index and {len(queries.ids)} queries.")
    if queries.descriptors.shape[1] != dimension:
        raise DataError(
            f"the index has {dimension}-D descriptors and the queries {queries.descriptors.shape[1]}-D; "
            "expected the same. Embed both with the same models in the same order."
        )
    require_same_model(index.source, queries.source, "the index and the queries")
    k = min(k, n)
    slack = _rounding_error(index.descriptors, queries.descriptors)
    flat = faiss.IndexFlatL2(dimension)
    flat.add(np.ascontiguousarray(index.descriptors))
    descriptors = np.ascontiguousarray(queries.descriptors)
    squared, candidates = flat.search(descriptors, min(2 * k, n))

    rows, distances = np.empty((len(descriptors), k), np.int32), np.empty((len(descriptors), k), np.float32)
    for row, query in enumerate(descriptors):
        chosen = candidates[row]
        within = squared[row, k - 1] + slack[row]
        if len(chosen) < n and squared[row, -1] <= within:
            # Images beyond the candidates could be as near as the k-th: take all that could be.
            chosen = flat.range_search(query[None], float(np.nextafter(within, np.float32(np.inf))))[2]
        rows[row], distances[row] = _nearest(index.descriptors, query, chosen, k)
    return Ranking(queries.ids, index.ids, rows, distances)


def _rounding_error(index: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Twice the expected error of faiss's squared distances, float32 [q]: √D roundings of the largest term."""
    with np.errstate(over="ignore"):
        largest = np.einsum("qd,qd->q", queries, queries) + np.einsum("nd,nd->n", index, index).max()
        if not np.isfinite(2 * largest).all():  # ‖x - y‖² is at most 2(‖x‖² + ‖y‖²)
            raise DataError("the descriptors are so large that their distances overflow float32; normalise them.")
    return (8 * np.sqrt(index.shape[1]) * np.finfo(np.float32).eps * largest).astype(np.float32)


def _nearest(index: np.ndarray, query: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of `candidates` (rows of the index) and their distances, by float64 distance and then by row."""
    distances = np.linalg.norm(index[candidates].astype(np.float64) - query, axis=1)
    order = np.lexsort((candidates, distances))[:k]
    return candidates[order], distances[order]


def search_files(
    index: str | os.PathLike, queries: str | os.PathLike, out: str | os.PathLike, data: str | os.PathLike | None = None
) -> dict[str, float | None]:
    """Ranks an embeddings file for the queries of another and writes the predictions; returns their metrics.

    Args:
        index, queries: embeddings of one model.
        out: predictions file to write.
        data: folder with the solution; if None, nothing is scored and the result is empty.

    Raises:
        DataError: as `search`, or the solution cannot be read, does not have a query or names images that were not searched.
        OutputError: `out` cannot be written.
    """
    dataset = Gldv2(Path(data)) if data is not None else None
    read = [index, queries, *(dataset.files() if dataset else [])]
    with output_file(out, read, around=[dataset.root] if dataset else []):
        # Report a wrong solution before the search, which can take long.
        solution = read_retrieval_solution(dataset.solution_path) if dataset else None
        sides = Embeddings.load(index), Embeddings.load(queries)
        if dataset and solution:
            if not solution.everything:
                raise DataError(f"{dataset.solution_path} scores no query. {NO_SOLUTION}")
            require_relevant_in_index(dataset, solution, sides[0].ids)
            require_known(sides[1].ids, solution)
        log(f"searching {len(sides[0].ids)} index images for {len(sides[1].ids)} queries")
        _require_room(out, *sides)
        ranking = search(*sides)
        write_predictions(out, ranking)
        return score(ranking, solution) if solution else {}


def _require_room(out: str | os.PathLike, index: Embeddings, queries: Embeddings) -> None:
    """For a row per query, with its id and at least the shortest ids of the index."""
    hits = min(CONTEST_K, len(index.ids)) * (min(map(len, index.ids), default=0) + 1)
    needed = sum(len(query) + 1 + hits for query in queries.ids)
    require_room(Path(out), needed, largest=needed)


def main() -> None:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=given_path, required=True, help="embeddings of the index images")
    parser.add_argument("--queries", type=given_path, required=True, help="embeddings of the query images")
    parser.add_argument(
        "--data", type=given_path, help="folder with retrieval_solution_v2.1.csv; default: nothing is scored"
    )
    parser.add_argument("--out", type=given_path, required=True, help="predictions file to write")
    parser.add_argument(
        "--json", action="store_true", help="print the figures and the path as one JSON object on stdout"
    )
    arguments = parser.parse_args()
    figures = search_files(arguments.index, arguments.queries, arguments.out, arguments.data)
    if arguments.json:
        json.dump(figures | {"path": str(arguments.out)}, sys.stdout, indent=2)
        print()
    else:
        for name, value in figures.items():
            log(f"{name:>16}  {'-' if value is None else format(value, '.5g')}")
        print(arguments.out)


if __name__ == "__main__":
    run(main)
