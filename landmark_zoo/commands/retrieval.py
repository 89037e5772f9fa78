"""`landmark-zoo embed`, `search`, `merge`, `evaluate`, `compare` and `report`."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from landmark_zoo import extras
from landmark_zoo.commands import Count, Flag, Json, Seed
from zoo.command import log

if TYPE_CHECKING:
    from retrieval.solution import RetrievalSolution


def embed(
    model: Path,
    /,
    *,
    data: Path,
    out: Path,
    split: Literal["train", "index", "test"] = "index",
    framework: Literal["torch", "paddle"] | None = None,
    batch_size: Count = 32,
    dtype: Literal["float16", "float32"] = "float16",
    shard: str = "0/1",
    only_scored: Flag = False,
    overwrite: Flag = False,
    cluster: str | None = None,
    cpus_per_worker: Count | None = None,
) -> None:
    """Write the descriptors of a whole split into a store. Run it again to continue.

    Args:
        model: a SavedModel's folder, an ONNX file or a checkpoint.
        data: a data set in the layout of Google Landmarks v2.
        out: the store to write or to continue.
        split: the split of --data.
        framework: for a checkpoint; default: the one that trained it.
        batch_size: images per batch.
        dtype: of the stored descriptors.
        shard: which part of the work; processes 0/4 to 3/4 fill one store together.
        only_scored: of --split test, the queries that the solution scores.
        overwrite: replace a store of another model or data set.
        cluster: compute on a Ray cluster: its address, auto, or local; default: in this process.
        cpus_per_worker: with --cluster; default: a GPU's share, or those of the smallest machine.
    """
    with extras.explained():
        from export.embedder import open_describer
        from retrieval.embed import embed_at_the_door

        embed_at_the_door(
            partial(open_describer, model.absolute(), framework),
            model,
            data,
            split,
            out,
            shard=shard,
            batch_size=batch_size,
            dtype=dtype,
            only_scored=only_scored,
            overwrite=overwrite,
            cluster=cluster,
            cpus_per_worker=cpus_per_worker,
        )
    print(out)


def search(
    *,
    index: Path,
    queries: Path,
    out: Path,
    data: Path | None = None,
    all_queries: Flag = False,
    device: str = "auto",
    shard: str | None = None,
    index_factory: str | None = None,
    search_parameters: str = "",
    rerank: Path | None = None,
    cluster: str | None = None,
    cpus_per_worker: Count | None = None,
    as_json: Json = False,
) -> None:
    """Rank the 100 nearest index images of each query, write a contest predictions file, and print its metrics.

    Args:
        index: store or embeddings of the index images.
        queries: store or embeddings of the query images, by the same model.
        out: predictions file to write.
        data: folder with retrieval_solution_v2.1.csv, whose scored queries are searched; default: all queries are searched, and nothing
            is scored.
        all_queries: with --data, search the queries that are not scored, too.
        device: auto (the fastest here), cpu, bfloat16 (some CPUs), cuda or cuda:N; all find the same neighbours.
        shard: search the part I of N parts of the index (from 0), written I/N; --out is then a file for `landmark-zoo merge`.
        index_factory: search approximately with this index of faiss, for example IVF1024,Flat; the recall is printed.
        search_parameters: of that index, for example nprobe=32.
        rerank: re-rank as a file of `landmark-zoo tune` says.
        cluster: search on a Ray cluster: its address, auto, or local.
        cpus_per_worker: with --cluster; default: a GPU's share, or those of the smallest machine.
        as_json: print the metrics and the path as one JSON object on stdout.
    """
    with extras.explained():
        from retrieval.search import search_files

        figures = search_files(
            index,
            queries,
            out,
            data,
            all_queries=all_queries,
            device=device,
            shard=shard,
            index_factory=index_factory,
            search_parameters=search_parameters,
            rerank=rerank,
            cluster=cluster,
            cpus_per_worker=cpus_per_worker,
        )
    _print_figures(figures, out, as_json)


def tune(
    *,
    train: Path,
    data: Path,
    out: Path,
    images: Count = 20_000,
    queries: Count = 1000,
    seed: Seed = 0,
    device: str = "auto",
) -> None:
    """Choose a re-ranking on the training set, by leaving images out, and say which whitening helps.

    Args:
        train: store or embeddings of the split train.
        data: the data set, for its landmarks.
        out: the re-ranking to write (JSON), for `landmark-zoo search --rerank`.
        images: about how many images take part, of landmarks drawn at random.
        queries: about how many of them are queries.
        seed: of both choices.
        device: auto (the fastest here), cpu, bfloat16 (some CPUs), cuda or cuda:N; all find the same neighbours.
    """
    with extras.explained():
        from retrieval.tune import tune_files

        tune_files(train, data, out, images=images, queries=queries, seed=seed, device=device)
    print(out)


def merge(
    parts: list[Path],
    /,
    *,
    index: Path,
    queries: Path,
    out: Path,
    data: Path | None = None,
    all_queries: Flag = False,
    as_json: Json = False,
) -> None:
    """Merge the parts of a search, write its predictions file, and print its metrics.

    Args:
        parts: the files that `landmark-zoo search --shard` wrote, all of them, in any order.
        index: store or embeddings of the index images; only ids and norms are read.
        queries: store or embeddings of the query images.
        out: predictions file to write.
        data: folder with retrieval_solution_v2.1.csv, if the parts were searched with it.
        all_queries: if the parts were searched with it.
        as_json: print the metrics and the path as one JSON object on stdout.
    """
    with extras.explained():
        from retrieval.search import merge_files

        figures = merge_files(parts, index, queries, out, data, all_queries=all_queries)
    _print_figures(figures, out, as_json)


def evaluate(predictions: Path, /, *, data: Path, as_json: Json = False) -> None:
    """Print the contest's metrics of a predictions file.

    Args:
        predictions: a file that `landmark-zoo search` wrote, or another one with the columns id,images.
        data: folder with retrieval_solution_v2.1.csv.
        as_json: print the metrics and the path as one JSON object on stdout.
    """
    from retrieval.metrics import score
    from retrieval.solution import read_retrieval_predictions

    solution = _solution(data)
    _print_figures(score(read_retrieval_predictions(predictions, solution), solution), predictions, as_json)


def compare(first: Path, second: Path, /, *, data: Path, as_json: Json = False) -> None:
    """Say whether one predictions file is better than another: the difference of mAP@100, its interval and a paired test.

    Args:
        first: a predictions file.
        second: the one that it is compared with.
        data: folder with retrieval_solution_v2.1.csv.
        as_json: print the figures as one JSON object on stdout.
    """
    from retrieval.comparison import compare as compared
    from retrieval.metrics import average_precisions
    from retrieval.solution import read_retrieval_predictions

    solution = _solution(data)
    sides = [
        average_precisions(read_retrieval_predictions(path, solution).everything, solution.everything)
        for path in (first, second)
    ]
    found = compared(*sides)
    scores = [float(side.mean()) for side in sides]
    if as_json:
        print(json.dumps({"map100": scores} | found.as_json() | {"shown": found.shown}, indent=2))
        return
    for path, score in zip((first, second), scores, strict=True):
        log(f"{score:.4f}  mAP@100 of {path}")
    log(f"better for {found.better:,} queries, worse for {found.worse:,}, equal for the others")
    print(found)


def _solution(data: Path) -> "RetrievalSolution":
    """The solution of a data set, whose relevant images are in its index if that has a table."""
    from retrieval.data.gldv2 import Gldv2
    from retrieval.solution import read_retrieval_solution, require_relevant_in_index

    dataset = Gldv2(data)
    solution = read_retrieval_solution(dataset.solution_path)
    if dataset.table_path("index").exists():
        require_relevant_in_index(dataset, solution, dataset.named_ids("index"))
    return solution


def report(
    *,
    data: Path,
    out: Path,
    predictions: Path | None = None,
    index: Path | None = None,
    queries: Path | None = None,
    compare: Path | None = None,
    map: Flag = False,
) -> None:
    """Write one page with every scored query, its nearest images and the relevant ones that were missed.

    The ranking is a predictions file, or the index is searched; with both, the file is the ranking, and the descriptors give
    its cosines and distances.

    Args:
        data: a data set with its images and retrieval_solution_v2.1.csv.
        out: page to write (.html).
        predictions: a contest predictions file (id,images).
        index: store or embeddings of the index images.
        queries: store or embeddings of the query images, by the same model.
        compare: predictions of another ranking, to compare with.
        map: place the descriptors on a map; needs openTSNE (extra `map`).
    """
    with extras.explained():
        from retrieval.viewer.make_report import report_files

        report_files(out, data, predictions=predictions, index=index, queries=queries, compare=compare, with_map=map)
    print(out)


def _print_figures(figures: Mapping[str, float | None], predictions: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dict(figures) | {"path": str(predictions)}, indent=2))
        return
    for name, value in figures.items():
        log(f"{name:>16}  {'-' if value is None else format(value, '.5g')}")
    print(predictions)
