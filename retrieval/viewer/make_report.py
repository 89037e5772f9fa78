"""From a ranking, or from files of one, to the report."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retrieval.data.gldv2 import Gldv2
from retrieval.data.landmarks import index_landmarks
from retrieval.metrics import CONTEST_K, average_precisions
from retrieval.provenance import require_same_model
from retrieval.ranking import Ranking
from retrieval.search import queries_to_search, search
from retrieval.solution import (
    RetrievalPredictions,
    RetrievalSolution,
    read_retrieval_predictions,
    read_retrieval_solution,
    require_known,
    require_relevant_in_index,
)
from retrieval.store import open_rows
from retrieval.viewer.configuration import configuration_of
from retrieval.viewer.descriptor_map import FEWEST, POINTS, descriptor_map
from retrieval.viewer.figures import Run
from retrieval.viewer.report import Other, Report, pictures_of, write_report
from retrieval.viewer.results import Results, results
from retrieval.viewer.similarities import Sides
from zoo.command import log
from zoo.errors import DataError
from zoo.files import output_file

MAP_PACKAGE = "openTSNE"
NO_MAP = "There is no map of the descriptors: it needs openTSNE, which is not installed. Run: pip install 'landmark-zoo[map]'"
NOT_ASKED = (
    "There is no map of the descriptors: add --map, with --index and --queries, to the command that writes this report."
)


def make_report(
    title: str,
    dataset: Gldv2,
    ranking: Ranking,
    solution: RetrievalSolution,
    sides: Sides | None = None,
    *,
    with_map: bool = False,
    other: tuple[str, RetrievalPredictions] | None = None,
    configuration: Mapping[str, str] | None = None,
    run: Run | None = None,
) -> Report:
    """Everything that the page shows; reads the images.

    Args:
        title: the heading.
        dataset: where the images and the names of landmarks are.
        ranking: of the solution's queries; others are left out.
        solution: the ground truth.
        sides: the descriptors, for cosines and the map.
        with_map: place the descriptors on a map; without `sides` or openTSNE the page says how to get one.
        other: a ranking to compare with, and its name.
        configuration: what made the ranking, before what the descriptors say of themselves.
        run: what a pipeline measured.
    """
    made = results(ranking, solution, index_landmarks(dataset, _named(ranking, solution)), sides)
    positions, no_map = _map(made, sides if with_map else None)
    described = configuration_of(sides.index.source) if sides else {}
    return Report(
        title,
        made,
        pictures_of(dataset, made),
        {**(configuration or {}), **described},
        Other(other[0], average_precisions(other[1].everything, _in_order(made, solution))) if other else None,
        positions,
        no_map,
        run,
    )


def _map(made: Results, sides: Sides | None) -> tuple[np.ndarray | None, str]:
    """The positions of the descriptors, or None and why there are none."""
    if sides is None:
        return None, NOT_ASKED
    if not importlib.util.find_spec(MAP_PACKAGE):
        return None, NO_MAP
    points = len(made.query_ids) + len(made.image_ids)
    if points < FEWEST:
        return None, f"There is no map of the descriptors: {points} are too few."
    log(f"placing {min(points, POINTS):,} descriptors on the map")
    return descriptor_map(made, sides), ""


def report_files(
    out: str | os.PathLike,
    data: str | os.PathLike,
    *,
    predictions: str | os.PathLike | None = None,
    index: str | os.PathLike | None = None,
    queries: str | os.PathLike | None = None,
    compare: str | os.PathLike | None = None,
    with_map: bool = False,
) -> None:
    """Writes the report of a predictions file, of two sets of descriptors, or of both.

    Args:
        out: the page to write.
        data: a data set with its images and its solution.
        predictions: the ranking; if None, the index is searched.
        index, queries: stores or embeddings files; with `predictions` they give its cosines and distances.
        compare: a predictions file to compare with.
        with_map: place the descriptors on a map.

    Raises:
        DataError: neither a ranking nor descriptors are given, or a file is wrong.
        OutputError: `out` cannot be written.
        ModuleNotFoundError: openTSNE is not installed and a map is asked for.
    """
    dataset = Gldv2(Path(data))
    read = [path for path in (predictions, index, queries, compare, *dataset.files()) if path is not None]
    with output_file(out, read, around=[dataset.root]):
        _require_enough(predictions, index, queries, with_map)
        if with_map:
            importlib.import_module(MAP_PACKAGE)  # before the work
        solution = read_retrieval_solution(dataset.solution_path)
        sides = _open_sides(index, queries)
        ranking = _ranking(dataset, solution, predictions, sides)
        other = (Path(compare).name, read_retrieval_predictions(compare, solution)) if compare is not None else None
        name, source = dataset.root.absolute().name, Path(predictions).name if predictions else "exact search"
        report = make_report(
            f"{name}: {source}",
            dataset,
            ranking,
            solution,
            sides,
            with_map=with_map,
            other=other,
            configuration={"Data set": name, "Ranking": source},
        )
        write_report(out, report)


def predicted_ranking(predictions: Mapping[str, Sequence[str]], index_ids: Sequence[str]) -> Ranking:
    """Predictions as row numbers, −1 behind the end of a short list; their distances are NaN.

    Raises:
        DataError: a prediction is not among the ids of the index.
    """
    rows = {image: row for row, image in enumerate(index_ids)}
    found = np.full((len(predictions), CONTEST_K), -1, np.int32)
    for place, (query, hits) in enumerate(predictions.items()):
        hits = hits[:CONTEST_K]
        if unknown := next((image for image in hits if image not in rows), None):
            raise DataError(
                f"query {query!r} has the hit {unknown!r}, which is not in the index; expected predictions of this data set."
            )
        found[place, : len(hits)] = [rows[image] for image in hits]
    return Ranking(tuple(predictions), index_ids, found, np.full(found.shape, np.nan, np.float32))


def _require_enough(predictions: object, index: object, queries: object, with_map: bool) -> None:
    if (index is None) != (queries is None):
        raise DataError("expected both --index and --queries, found one of them.")
    if predictions is None and index is None:
        raise DataError("expected --predictions, or --index and --queries to search, found neither.")
    if with_map and index is None:
        raise DataError("--map needs descriptors: give --index and --queries too.")


def _open_sides(index: str | os.PathLike | None, queries: str | os.PathLike | None) -> Sides | None:
    if index is None or queries is None:
        return None
    sides = Sides(open_rows(index), open_rows(queries))
    require_same_model(sides.index.source, sides.queries.source, "the index and the queries")
    return sides


def _ranking(
    dataset: Gldv2, solution: RetrievalSolution, predictions: str | os.PathLike | None, sides: Sides | None
) -> Ranking:
    index_ids = sides.index.ids if sides else dataset.named_ids("index")
    require_relevant_in_index(dataset, solution, index_ids)
    if predictions is not None:
        return predicted_ranking(read_retrieval_predictions(predictions, solution).everything, index_ids)
    assert sides, "checked at the door"
    require_known(sides.queries.ids, solution)
    return search(sides.index, queries_to_search(sides.queries, solution))


def _in_order(made: Results, solution: RetrievalSolution) -> dict[str, Sequence[str]]:
    """The ground truth in the order of the results."""
    return {query: solution.everything[query] for query in made.query_ids}


def _named(ranking: Ranking, solution: RetrievalSolution) -> set[str]:
    """Index images whose landmarks may be shown."""
    hits = {ranking.index_ids[int(row)] for row in np.unique(ranking.rows) if row >= 0}
    return hits.union(*solution.everything.values())
