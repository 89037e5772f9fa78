"""The search of files: exact, in parts, on a cluster or approximate, then re-ranked and scored."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from retrieval.approximate import approximate_index, approximate_search, measure_recall
from retrieval.data.gldv2 import Gldv2
from retrieval.devices import choose_device
from retrieval.exact import search
from retrieval.metrics import CONTEST_K, score
from retrieval.ranking import Ranking, write_predictions
from retrieval.rerank import apply, read_reranking
from retrieval.searchable import require_searchable
from retrieval.shard import Shard
from retrieval.sharded import is_result_of, merge, read_part, search_part, shard_rows, whole_search, write_part
from retrieval.solution import (
    NO_SOLUTION,
    RetrievalSolution,
    read_retrieval_solution,
    require_known,
    require_relevant_in_index,
)
from retrieval.store import Rows, chosen, open_rows
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.disk import require_room
from zoo.errors import DataError, SpecError
from zoo.files import output_file, work_folder
from zoo.strict import Count

ROWS_PER_PART = 65_536
"""Images of a part of a search on a cluster."""
HELP = """\
python -m retrieval.search --index index_store --queries test_store --data DIR --out predictions.csv

Ranks the 100 nearest index images for each query, writes them as a contest predictions file (id,images) and prints
mAP@100, P@1, P@10 and the median position of the first right image. DIR holds retrieval_solution_v2.1.csv, and only the
queries that it scores are searched; without --data all are, and only the predictions are written.
"""


def search_files(
    index: str | os.PathLike,
    queries: str | os.PathLike,
    out: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    all_queries: bool = False,
    device: str = "auto",
    shard: str | None = None,
    index_factory: str | None = None,
    search_parameters: str = "",
    rerank: str | os.PathLike | None = None,
    cluster: str | None = None,
    cpus_per_worker: int | None = None,
) -> dict[str, float | None]:
    """Ranks a store or an embeddings file for the queries of another and writes the predictions; returns their metrics.

    Args:
        index, queries: descriptors by one model.
        out: predictions file to write; with `shard`, the part's result.
        data: folder with the solution; if None, nothing is scored and the result is empty.
        all_queries: with `data`, also searches the queries that the solution does not score.
        device: as in `retrieval.devices.choose_device`.
        shard: "i/n" searches the i-th of n parts of the index (from 0) for `merge_files`.
        index_factory, search_parameters: search approximately (`retrieval.approximate`); the result then has the recall, too.
        rerank: a file of `retrieval.tune`, whose re-ranking follows an exact search of the whole index.
        cluster, cpus_per_worker: search parts of the index on a Ray cluster (`retrieval.cluster`) and merge them; the finished ones
            are kept in `<out>.parts` until all are, so that the same command continues.

    Raises:
        DataError: as `search`, or the solution cannot be read, does not have a query or names images that were not searched.
        SpecError: `device` or a string for faiss is wrong, or options exclude each other.
        OutputError: `out` cannot be written.
    """
    part = Shard.parse(shard) if shard else None
    if index_factory and shard:
        raise SpecError("--shard and --index-factory exclude each other; an approximate index is searched as a whole.")
    if search_parameters and not index_factory:
        raise SpecError("--search-parameters belongs to --index-factory; an exact search has none.")
    if rerank and (index_factory or shard):
        raise SpecError("--rerank needs an exact search of the whole index: leave --index-factory and --shard out.")
    if cluster:
        if index_factory or shard or rerank:
            raise SpecError(
                "--cluster excludes --index-factory, --shard and --rerank: it makes the parts of an exact search."
            )
        return _search_on_cluster(index, queries, out, data, all_queries, device, cluster, cpus_per_worker)
    chosen_device = choose_device(device)
    with _sides(index, queries, out, data, all_queries, [rerank] if rerank else []) as (sides, solution):
        reranking = read_reranking(rerank) if rerank else None
        log(f"searching {len(sides[0].ids):,} index images for {len(sides[1].ids):,} queries on {chosen_device}")
        if part:
            require_room(Path(out), needed := len(sides[1].ids) * CONTEST_K * 16, largest=needed)
            rows = shard_rows(len(sides[0].ids), part)
            write_part(out, search_part(*sides, CONTEST_K, rows, device=chosen_device))
            return {}
        _require_room(out, *sides)
        if not index_factory:
            ranking = search(*sides, device=chosen_device)
            if reranking:
                log(f"re-ranking: {reranking}")
                with work_folder(out):  # new descriptors are stored in it
                    ranking = apply(*sides, ranking, reranking, device=chosen_device)
            return _written(out, ranking, solution)
        require_searchable(*sides, CONTEST_K)
        made = approximate_index(sides[0], index_factory, search_parameters)
        ranking = approximate_search(*sides, made)
        recall = measure_recall(*sides, ranking, device=chosen_device)
        found = {f"recall_{ranking.rows.shape[1]}": recall.share, "recall_queries": recall.queries}
        return found | _written(out, ranking, solution)


def _search_on_cluster(
    index: str | os.PathLike,
    queries: str | os.PathLike,
    out: str | os.PathLike,
    data: str | os.PathLike | None,
    all_queries: bool,
    device: str,
    cluster: str,
    cpus_per_worker: int | None,
) -> dict[str, float | None]:
    from retrieval.cluster import run_on_cluster  # Ray is an extra, and takes a second to import

    index, queries = Path(index).absolute(), Path(queries).absolute()  # the workers have other working directories
    data = Path(data).absolute() if data is not None else None
    folder = Path(f"{out}.parts").absolute()
    with _sides(index, queries, out, data, all_queries) as (sides, solution):
        _require_room(out, *sides)
        parts = -(-len(sides[0].ids) // ROWS_PER_PART)
        places = {Shard(number, parts): folder / f"{number:05d}.safetensors" for number in range(parts)}
        whole = whole_search(*sides, CONTEST_K)
        calls = [
            partial(search_files, index, queries, place, data, all_queries=all_queries, device=device, shard=str(shard))
            for shard, place in places.items()
            if not is_result_of(place, whole.part(shard_rows(len(sides[0].ids), shard)))
        ]
        if len(calls) < parts:
            log(f"continuing after {parts - len(calls):,} of {parts:,} parts")
        run_on_cluster(calls, address=cluster, cpus_per_worker=cpus_per_worker, label="search")
        figures = _merged(list(places.values()), out, sides, solution)
    shutil.rmtree(folder, ignore_errors=True)
    return figures


def merge_files(
    parts: Sequence[str | os.PathLike],
    index: str | os.PathLike,
    queries: str | os.PathLike,
    out: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    all_queries: bool = False,
) -> dict[str, float | None]:
    """Merges the results of a search's parts to the predictions of the whole; returns their metrics.

    Args:
        parts: files that `search_files` wrote with `shard`, all parts, in any order.
        index, queries, data, all_queries: as the parts were searched with.
        out: predictions file to write.

    Raises:
        DataError: as `search_files` and `retrieval.sharded.merge`, or a file is damaged.
        OutputError: `out` cannot be written.
    """
    with _sides(index, queries, out, data, all_queries, parts) as (sides, solution):
        _require_room(out, *sides)
        return _merged(parts, out, sides, solution)


@contextmanager
def _sides(
    index: str | os.PathLike,
    queries: str | os.PathLike,
    out: str | os.PathLike,
    data: str | os.PathLike | None,
    all_queries: bool,
    more: Sequence[str | os.PathLike] = (),
) -> Iterator[tuple[tuple[Rows, Rows], RetrievalSolution | None]]:
    """The index, the queries to search, and the solution if there is one, whose errors are found before the search."""
    dataset = Gldv2(Path(data)) if data is not None else None
    read = [index, queries, *more, *(dataset.files() if dataset else [])]
    with output_file(out, read, around=[dataset.root] if dataset else []):
        solution = read_retrieval_solution(dataset.solution_path) if dataset else None
        found, asked = open_rows(index), open_rows(queries)
        if dataset and solution:
            if not solution.everything:
                raise DataError(f"{dataset.solution_path} scores no query. {NO_SOLUTION}")
            require_relevant_in_index(dataset, solution, found.ids)
            require_known(asked.ids, solution)
        yield (found, queries_to_search(asked, solution, all_queries)), solution


def queries_to_search(queries: Rows, solution: RetrievalSolution | None, all_queries: bool = False) -> Rows:
    """The queries to search: those that could be read, and with a solution those that it scores, unless all are wanted."""
    wanted = np.isfinite(queries.squared_norms)
    if unread := int((~wanted).sum()):
        log(f"{unread:,} queries could not be read, so they are not searched")
    if solution and not all_queries:
        scored = solution.everything
        wanted &= np.fromiter((query in scored for query in queries.ids), bool, len(wanted))
        log(
            f"{int(wanted.sum()):,} of {len(wanted):,} queries are scored, and only they are searched (all: --all-queries)"
        )
        if not wanted.any():
            raise DataError(f"none of the {len(wanted):,} queries is scored. {NO_SOLUTION}")
    return queries if wanted.all() else chosen(queries, np.flatnonzero(wanted))


def _merged(
    parts: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    sides: tuple[Rows, Rows],
    solution: RetrievalSolution | None,
) -> dict[str, float | None]:
    return _written(out, merge([read_part(path) for path in parts], *sides), solution)


def _written(out: str | os.PathLike, ranking: Ranking, solution: RetrievalSolution | None) -> dict[str, float | None]:
    write_predictions(out, ranking)
    return score(ranking, solution) if solution else {}


def _require_room(out: str | os.PathLike, index: Rows, queries: Rows) -> None:
    """For a row per query, with its id and at least the shortest ids of the index."""
    hits = min(CONTEST_K, len(index.ids)) * (min(map(len, index.ids), default=0) + 1)
    needed = sum(len(query) + 1 + hits for query in queries.ids)
    require_room(Path(out), needed, largest=needed)


def main() -> None:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=given_path, required=True, help="store or embeddings of the index images")
    parser.add_argument("--queries", type=given_path, required=True, help="store or embeddings of the query images")
    parser.add_argument(
        "--data", type=given_path, help="folder with retrieval_solution_v2.1.csv; default: nothing is scored"
    )
    parser.add_argument("--out", type=given_path, required=True, help="predictions file to write")
    parser.add_argument("--all-queries", action="store_true", help="search the queries that --data does not score, too")
    parser.add_argument("--device", default="auto", help="auto (the fastest here), cpu, bfloat16, cuda or cuda:N")
    parser.add_argument(
        "--shard", metavar="I/N", help="search one of N parts of the index, from 0; --out is its result"
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="search on a Ray cluster: its address, auto, or local")
    parser.add_argument(
        "--cpus-per-worker",
        type=ranged(Count),
        help="with --cluster; default: a GPU's share, or those of the smallest machine",
    )
    parser.add_argument("--index-factory", metavar="TEXT", help="search approximately with this index of faiss")
    parser.add_argument("--search-parameters", metavar="TEXT", default="", help="of that index, such as nprobe=32")
    parser.add_argument("--rerank", type=given_path, metavar="FILE", help="re-rank as a file of `retrieval.tune` says")
    parser.add_argument(
        "--json", action="store_true", help="print the figures and the path as one JSON object on stdout"
    )
    given = parser.parse_args()
    figures = search_files(
        given.index,
        given.queries,
        given.out,
        given.data,
        all_queries=given.all_queries,
        device=given.device,
        shard=given.shard,
        cluster=given.cluster,
        cpus_per_worker=given.cpus_per_worker,
        index_factory=given.index_factory,
        search_parameters=given.search_parameters,
        rerank=given.rerank,
    )
    if given.json:
        json.dump(figures | {"path": str(given.out)}, sys.stdout, indent=2)
        print()
    else:
        for name, value in figures.items():
            log(f"{name:>16}  {'-' if value is None else format(value, '.5g')}")
        print(given.out)


if __name__ == "__main__":
    run(main)
