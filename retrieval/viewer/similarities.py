"""Distances and cosines between queries and their hits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.ranking import Ranking
from retrieval.store import Rows
from zoo.errors import DataError


@dataclass(frozen=True, eq=False)
class Sides:
    """The descriptors of the index and of the queries that a ranking belongs to."""

    index: Rows
    queries: Rows


def similarities(
    ranking: Ranking, rows: Sequence[int | None], k: int, sides: Sides | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances and cosines, float32 [len(rows), k], between queries and their first k hits.

    Args:
        ranking: the hits; its own distances are used only without `sides`: a re-ranked list has none.
        rows: rows of the ranking; None is a query without hits.
        k: hits per query.
        sides: the descriptors.

    Returns:
        NaN where there is no hit; without `sides` all cosines are NaN, and distances that the ranking does not have.

    Raises:
        DataError: the sides are of other images than the ranking.
    """
    distances, cosines = (np.full((len(rows), k), np.nan, np.float32) for _ in range(2))
    if sides:
        _require_same_images(ranking, sides)
    query_rows = {image: row for row, image in enumerate(sides.queries.ids)} if sides else {}
    for place, row in enumerate(rows):
        if row is None:
            continue
        there = np.flatnonzero(ranking.rows[row, :k] >= 0)
        if not sides:
            distances[place, there] = ranking.distances[row, there]
            continue
        query = np.asarray(sides.queries.rows[query_rows[ranking.query_ids[row]]], np.float64)
        hits = np.asarray(sides.index.rows[ranking.rows[row, there]], np.float64)
        distances[place, there] = np.linalg.norm(hits - query, axis=1)
        with np.errstate(invalid="ignore"):  # the row of an image that could not be read is zeros
            cosines[place, there] = hits @ query / (np.linalg.norm(hits, axis=1) * np.linalg.norm(query))
    return distances, cosines


def _require_same_images(ranking: Ranking, sides: Sides) -> None:
    same = ranking.index_ids is sides.index.ids or tuple(ranking.index_ids) == tuple(sides.index.ids)
    if not same:
        raise DataError("the ranking and the index are of other images; expected the index that was ranked.")
    known = set(sides.queries.ids)
    if missing := [query for query in ranking.query_ids if query not in known]:
        raise DataError(
            f"{len(missing):,} queries of the ranking have no descriptor, first {missing[0]!r}; expected the queries that were ranked."
        )
