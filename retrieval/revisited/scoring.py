"""Scores an index and queries of Revisited Oxford or Paris, by the whole ranking of each query."""

import os
from collections.abc import Iterable, Sequence

import numpy as np

from retrieval.ranking import Ranking
from retrieval.revisited.data_set import image_id
from retrieval.revisited.ground_truth import LISTS, GroundTruth, read_ground_truth
from retrieval.revisited.metrics import score
from retrieval.search import search
from retrieval.store import Rows, chosen, open_rows
from zoo.errors import DataError

Figures = dict[str, dict[str, float | int | None]]


def score_files(gnd: str | os.PathLike, index: str | os.PathLike, queries: str | os.PathLike) -> Figures:
    """The metrics of each protocol.

    Args:
        gnd: the published ground truth, or our JSON of it.
        index, queries: stores or embeddings files of one model. Their ids are the names of the ground truth, or what
            `retrieval.revisited.data_set` makes of them. An index may hold further images, which are wrong for every query.

    Returns:
        As `retrieval.revisited.metrics.score`.

    Raises:
        DataError: a file cannot be read, an image or a query of the ground truth has no descriptor, or as `search`.
    """
    truth = read_ground_truth(gnd)
    return score_rows(truth, open_rows(index), open_rows(queries))


def score_rows(truth: GroundTruth, index: Rows, queries: Rows) -> Figures:
    """As `score_files`, for descriptors that are open."""
    for rows, what in ((index, "the index"), (queries, "the queries")):
        if unreadable := int(np.sum(~np.isfinite(rows.squared_norms))):
            raise DataError(f"{unreadable:,} images of {what} could not be read; the protocol ranks all of them.")
    image_rows = dict(zip(truth.images, _places(truth.images, index.ids, "the index"), strict=True))
    searched = chosen(queries, _places([query.name for query in truth.queries], queries.ids, "the queries"))
    ranking = search(index, searched, len(index.ids))
    return score_ranking(
        ranking,
        [{kind: [image_rows[name] for name in getattr(query, kind)] for kind in LISTS} for query in truth.queries],
    )


def score_ranking(ranking: Ranking, lists: Sequence[dict[str, list[int]]]) -> Figures:
    """The metrics of a ranking of the whole index; `lists` has, per query, the rows that are "easy", "hard" and "junk"."""
    positions = np.empty_like(ranking.rows)
    np.put_along_axis(positions, ranking.rows, np.arange(ranking.rows.shape[1], dtype=positions.dtype)[None], axis=1)
    return score(positions, [{kind: np.array(rows, np.int64) for kind, rows in own.items()} for own in lists])


def _places(names: Iterable[str], ids: Sequence[str], what: str) -> np.ndarray:
    """Rows of the descriptors of these names, int64."""
    row = dict(zip(ids, range(len(ids)), strict=True))
    found = {name: row.get(name, row.get(image_id(name))) for name in names}
    if missing := [name for name, place in found.items() if place is None]:
        raise DataError(
            f"{len(missing):,} of {len(found):,} images of the ground truth have no descriptor in {what}, first {missing[0]!r}. Embed "
            "the data set that `landmark-zoo revisited data` makes of this ground truth."
        )
    return np.array(list(found.values()), np.int64)
