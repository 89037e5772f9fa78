"""`landmark-zoo embed`, `search` and `evaluate`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from landmark_zoo import extras
from landmark_zoo.commands import Count, Json
from zoo.command import log


def embed(
    model: Path,
    /,
    *,
    data: Path,
    out: Path,
    split: Literal["train", "index", "test"] = "index",
    framework: Literal["torch", "paddle"] | None = None,
    batch_size: Count = 32,
) -> None:
    """Compute the descriptors of a whole split.

    Args:
        model: a SavedModel's folder, an ONNX file or a checkpoint.
        data: a data set in the layout of Google Landmarks v2.
        out: embeddings to write (.safetensors).
        split: the split of --data.
        framework: for a checkpoint; default: the one that trained it.
        batch_size: images per batch.
    """
    with extras.explained():
        from export.embedder import open_describer
        from retrieval.data.gldv2 import Gldv2
        from retrieval.embed import embed_split
        from zoo.files import output_file

        dataset = Gldv2(data)
        with output_file(out, [model, *dataset.files()], around=[data]):
            embed_split(open_describer(model, framework), dataset, split, out, batch_size=batch_size)
    print(out)


def search(*, index: Path, queries: Path, out: Path, data: Path | None = None, as_json: Json = False) -> None:
    """Rank the 100 nearest index images of each query, write a contest predictions file, and print its metrics.

    Args:
        index: embeddings of the index images.
        queries: embeddings of the query images, by the same model.
        out: predictions file to write.
        data: folder with retrieval_solution_v2.1.csv; default: the neighbours are written and nothing is scored.
        as_json: print the metrics and the path as one JSON object on stdout.
    """
    with extras.explained():
        from retrieval.search import search_files

        figures = search_files(index, queries, out, data)
    _print_figures(figures, out, as_json)


def evaluate(predictions: Path, /, *, data: Path, as_json: Json = False) -> None:
    """Print the contest's metrics of a predictions file.

    Args:
        predictions: a file that `landmark-zoo search` wrote, or another one with the columns id,images.
        data: folder with retrieval_solution_v2.1.csv.
        as_json: print the metrics and the path as one JSON object on stdout.
    """
    with extras.explained():
        from retrieval.data.gldv2 import Gldv2
        from retrieval.metrics import read_retrieval_predictions, read_retrieval_solution
        from retrieval.search import require_relevant_in_index, score

    dataset = Gldv2(data)
    solution = read_retrieval_solution(dataset.solution_path)
    if dataset.table_path("index").exists():
        require_relevant_in_index(dataset, solution, dataset.named_ids("index"))
    _print_figures(score(read_retrieval_predictions(predictions, solution), solution), predictions, as_json)


def _print_figures(figures: Mapping[str, float | None], predictions: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dict(figures) | {"path": str(predictions)}, indent=2))
        return
    for name, value in figures.items():
        log(f"{name:>16}  {'-' if value is None else format(value, '.5g')}")
    print(predictions)
