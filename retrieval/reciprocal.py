"""k-reciprocal re-ranking from neighbour lists: no array has an entry for each pair of images.

Z. Zhong, L. Zheng, D. Cao and S. Li, "Re-ranking person re-identification with k-reciprocal encoding" (CVPR 2017). Two images are
reciprocal neighbours if each is among the other's k1 nearest. An image is described by its reciprocal neighbours and, where they overlap
by two thirds, by theirs (weights exp(-distance), sum 1), averaged over its k2 nearest images (local query expansion). Two
descriptions are compared by their Jaccard distance, and the final distance is (1 - λ) Jaccard distance + λ distance.

As in the paper's own code, the queries are part of the set: they are neighbours, too, so the ranking of a query depends a little on the
others that are searched with it. Two things differ. The distance is 1 - cosine, half the squared Euclidean distance of unit-norm
descriptors, where that code divides squared distances by the largest of the row, for which all of them would be needed. And an
image is always the first of its own list, even if others are equal to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from retrieval.neighbours import Neighbours, neighbours, other_neighbours
from retrieval.ranking import Ranking
from retrieval.store import Rows
from zoo.errors import DataError
from zoo.strict import Fraction

_NUMBERS = 1 << 22
"""Entries of the largest temporary arrays."""


@dataclass(frozen=True)
class KReciprocal:
    """The paper's parameters.

    Attributes:
        k1: length of the neighbour lists; about as many as a landmark has images.
        k2: images whose descriptions are averaged, the image itself being one of them; at most k1.
        distance_weight: λ, the part of the distance itself in the final one; the rest is the Jaccard distance.
    """

    k1: Annotated[int, Meta(ge=1, le=200)]
    k2: Annotated[int, Meta(ge=1, le=200)]
    distance_weight: Fraction = 0.3

    def __post_init__(self) -> None:
        if self.k2 > self.k1:
            raise DataError(f"expected k2 of at most k1, which is {self.k1}, found {self.k2}")


@dataclass(frozen=True, eq=False)
class Sparse:
    """Rows of which few entries are not 0.

    Attributes:
        starts: int64 [rows + 1], where each row's entries begin.
        columns: int32 [entries], ascending within a row.
        values: float32 [entries].
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The entries of some rows: int64 [m], which of `rows` each belongs to, and int64 [m], where it is."""
        first, count = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return owner, first[owner] + within


class _Together:
    """The index and after it the queries, counted as one set of m images."""

    def __init__(self, index: Rows, queries: Rows) -> None:
        self.index, self.queries = index, queries
        self.norms = np.sqrt(np.concatenate([index.squared_norms, queries.squared_norms]))

    def take(self, places: np.ndarray) -> np.ndarray:
        """Descriptors, float32 [n, D]."""
        size = len(self.index.ids)
        found = np.empty((len(places), self.index.rows.shape[1]), np.float32)
        of_index = places < size
        found[of_index] = self.index.rows[places[of_index]]
        found[~of_index] = self.queries.rows[places[~of_index] - size]
        return found

    def distances_from(self, place: int, others: np.ndarray) -> np.ndarray:
        """1 - cosine of an image and others, float64 [n]."""
        own = self.take(np.array([place]))[0].astype(np.float64)
        return 1 - self.take(others) @ own / (self.norms[place] * self.norms[others])

    def distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """1 - cosine of pairs of images, float32 [n]; 0 of an image to itself."""
        found = np.empty(len(first), np.float32)
        for part in _parts(len(first), self.index.rows.shape[1]):
            one, other = first[part], second[part]
            products = np.einsum("nd,nd->n", self.take(one), self.take(other), dtype=np.float64)
            found[part] = np.where(one == other, 0, 1 - products / (self.norms[one] * self.norms[other]))
        return found


def rerank(
    index: Rows,
    queries: Rows,
    ranking: Ranking,
    parameters: KReciprocal,
    *,
    known: Neighbours | None = None,
    device: str = "cpu",
) -> Ranking:
    """A ranking by the final distance, which is not Euclidean any more.

    Index images that share nothing with the query stay in the order of their distances, so the nearest of the whole index are among
    those that share something and the ranking's own. (If norms differ, the ranking's order by Euclidean distance is meant.)

    Args:
        index, queries: descriptors of one model; images that could not be read are never found.
        ranking: of the index by distance, for the same queries.
        parameters: lengths of lists and the weight of the distance.
        known: at least k1 other neighbours of each index image, if they were searched before.
        device: as in `retrieval.exact.search`.
    """
    size, length = len(index.ids), ranking.rows.shape[1]
    together = _Together(index, queries)
    lists = _lists(index, queries, ranking, parameters.k1, known, device)
    described = average(describe(lists, together), lists[:, : parameters.k2], len(lists))
    by_column = _turned(described, size)
    rows, distances = np.empty_like(ranking.rows), np.empty_like(ranking.distances)
    for query in range(len(queries.ids)):
        shared, overlap = _overlaps(described, by_column, size + query)
        # Weights sum up to 1 on both sides, so the sum of the larger ones is 2 - the sum of the smaller ones.
        jaccard = 1 - overlap / (2 - overlap)
        others = np.setdiff1d(ranking.rows[query], shared)
        found = np.concatenate([shared, others])
        own = together.distances_from(size + query, found)
        weight = parameters.distance_weight
        final = (1 - weight) * np.concatenate([jaccard, np.ones(len(others))]) + weight * own
        best = np.lexsort((found, own, final))[:length]
        rows[query], distances[query] = found[best], final[best]
    return Ranking(ranking.query_ids, ranking.index_ids, rows, distances)


def describe(lists: np.ndarray, together: _Together) -> Sparse:
    """Each image's reciprocal neighbours and theirs, with weights that sum up to 1.

    Args:
        lists: int32 [m, k1 + 1], each image and its k1 nearest others; -1 where there is none.
        together: the m images.
    """
    width = lists.shape[1]
    half = round((width - 1) / 2) + 1  # as numpy rounds: .5 to the even number
    mutual, half_mutual = _mutual(lists), _mutual(lists[:, :half])
    parts = []
    for part in _parts(len(lists), width * half * width):
        own = np.where(mutual[part], lists[part], -1)
        theirs = np.where(half_mutual[own] & (own >= 0)[..., None], lists[own, :half], -1)
        inside = (theirs[..., None] == own[:, None, None, :]).any(axis=-1) & (theirs >= 0)
        accepted = 3 * inside.sum(axis=-1) > 2 * (theirs >= 0).sum(axis=-1)
        added = np.where(accepted[..., None], theirs, -1).reshape(len(own), -1)
        members = np.sort(np.concatenate([own, added], axis=1), axis=1)
        new = members >= 0
        new[:, 1:] &= members[:, 1:] != members[:, :-1]
        image, _ = np.nonzero(new)
        column = members[new]
        weights = np.exp(-together.distances(image + part.start, column))
        parts.append((new.sum(axis=1), column, weights / np.bincount(image, weights)[image]))
    return _assembled(parts)


def average(described: Sparse, lists: np.ndarray, columns: int) -> Sparse:
    """The mean of several rows for each image.

    Args:
        described: the rows.
        lists: int32 [m, k2], the rows to average; -1 counts for nothing.
        columns: how many columns the rows have.
    """
    parts = []
    for part in _parts(len(lists), max(1, len(described.columns) // len(lists)) * lists.shape[1] * 4):
        image, _ = np.nonzero(lists[part] >= 0)
        owner, entries = described.take(lists[part][lists[part] >= 0])
        key = image[owner] * np.int64(columns) + described.columns[entries]
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        images = len(lists[part])
        counts = np.bincount(image, minlength=images)
        owner, column = np.divmod(key[first], columns)
        sums = np.add.reduceat(described.values[entries[order]], first) if len(first) else np.empty(0, np.float32)
        parts.append((np.bincount(owner, minlength=images), column, sums / counts[owner]))
    return _assembled(parts)


def _lists(index: Rows, queries: Rows, ranking: Ranking, k1: int, known: Neighbours | None, device: str) -> np.ndarray:
    """Each image of index and queries, and its k1 nearest others in both: int32 [m, k1 + 1], -1 where there is none."""
    size, count = len(index.ids), len(queries.ids)
    if ranking.rows.shape[1] >= min(k1, size):
        from_index = Neighbours(ranking.rows, ranking.distances).nearest(k1)
    else:
        from_index = neighbours(queries, index, k1, device=device)
    sides = (
        (known.nearest(k1) if known else other_neighbours(index, k1, device=device),
         neighbours(index, queries, k1, device=device)),
        (from_index, other_neighbours(queries, k1, device=device)),
    )  # fmt: skip
    lists = np.full((size + count, k1 + 1), -1, np.int32)
    for start, (of_index, of_queries) in zip((0, size), sides, strict=True):
        for part in _parts(len(of_index.rows), 4 * k1):
            shifted = np.where(of_queries.rows[part] < 0, -1, of_queries.rows[part] + size)
            rows = np.concatenate([of_index.rows[part], shifted], axis=1)
            order = np.argsort(
                np.concatenate([of_index.distances[part], of_queries.distances[part]], axis=1), kind="stable"
            )[:, :k1]
            own = np.arange(start + part.start, start + part.start + len(rows))
            lists[own, 1:] = np.take_along_axis(rows, order, axis=1)
            lists[own, 0] = own
    return lists


def _mutual(lists: np.ndarray) -> np.ndarray:
    """Whether each image is in the list of the other one: bool, of the shape of the lists."""
    found = np.zeros(lists.shape, bool)
    for part in _parts(len(lists), lists.shape[1] ** 2):
        own = np.arange(part.start, part.start + len(lists[part]))
        found[part] = (lists[lists[part]] == own[:, None, None]).any(axis=-1) & (lists[part] >= 0)
    return found


def _turned(described: Sparse, size: int) -> Sparse:
    """The first `size` rows by their columns: row c of the result has the images that have an entry in column c."""
    entries = int(described.starts[size])
    columns = described.columns[:entries]
    order = np.argsort(columns, kind="stable")
    images = np.repeat(np.arange(size, dtype=np.int32), np.diff(described.starts[: size + 1]))
    starts = np.searchsorted(columns[order], np.arange(len(described.starts)))
    return Sparse(starts, images[order], described.values[:entries][order])


def _overlaps(described: Sparse, by_column: Sparse, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The index images that share a column with a row, ascending, and the sums of the smaller weights, float64."""
    part = slice(described.starts[row], described.starts[row + 1])
    owner, entries = by_column.take(described.columns[part].astype(np.int64))
    smaller = np.minimum(described.values[part][owner], by_column.values[entries])
    images, place = np.unique(by_column.columns[entries], return_inverse=True)
    return images, np.bincount(place, smaller, minlength=len(images))


def _assembled(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Sparse:
    """Rows from the numbers of their entries, columns and values, a block of rows each."""
    counts, columns, values = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    return Sparse(np.concatenate([[0], np.cumsum(counts)]), columns.astype(np.int32), values.astype(np.float32))


def _parts(count: int, numbers_each: int) -> Iterator[slice]:
    """Slices of so many that their temporary arrays have at most `_NUMBERS` entries."""
    step = max(1, _NUMBERS // numbers_each)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
