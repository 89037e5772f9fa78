"""Scores of ways to retrieve, measured on labelled images by leaving some out: no query of a test set is looked at.

In each round one image of every landmark is left out and is a query; the index is all other images. So each query is searched among all
other images of its landmark, as in leave-one-out, and what is done to an index has not seen the query. The ways to retrieve are the
functions that a search uses.
"""

from dataclasses import dataclass

import numpy as np

from retrieval.metrics import Truth
from retrieval.store import Rows, Selection, chosen
from zoo.errors import DataError


@dataclass(frozen=True, eq=False)
class Round:
    """Queries, the index without them, and the ids of each query's relevant images."""

    index: Selection
    queries: Selection
    truth: Truth


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with their landmarks.

    Attributes:
        rows: descriptors of n images, all of them readable.
        labels: int64 [n].
    """

    rows: Rows
    labels: np.ndarray

    def plan(self, queries: int, seed: int) -> list[np.ndarray]:
        """The rows to leave out in each round, int64 [queries of the round]: rounds are added until there are enough queries.

        Args:
            queries: how many are wanted; the last round is not cut short, and no image is a query twice.
            seed: which image of a landmark is left out in which round.

        Raises:
            DataError: no landmark has two images.
        """
        turns = _turns(self.labels, seed)
        if not (turns >= 0).any():
            raise DataError(
                "no landmark has two images among those with descriptors, so there is nothing to search for. Embed the whole split "
                "train."
            )
        rounds = [np.flatnonzero(turns == turn) for turn in range(int(turns.max()) + 1)]
        before = np.cumsum([0, *map(len, rounds)])
        return [left_out for left_out, done in zip(rounds, before[:-1], strict=True) if done < queries]

    def round(self, left_out: np.ndarray) -> Round:
        """The images of these rows as queries, and all others as the index."""
        others = np.setdiff1d(np.arange(len(self.labels)), left_out)
        index, queries = chosen(self.rows, others), chosen(self.rows, left_out)
        order = np.argsort(self.labels[others], kind="stable")
        labels = self.labels[others][order]
        first, last = (np.searchsorted(labels, self.labels[left_out], side) for side in ("left", "right"))
        relevant = (order[start:stop] for start, stop in zip(first, last, strict=True))
        truth = {
            query: tuple(index.ids[int(row)] for row in rows) for query, rows in zip(queries.ids, relevant, strict=True)
        }
        return Round(index, queries, truth)


def sample(labels: np.ndarray, images: int, seed: int) -> np.ndarray:
    """Rows of whole landmarks, drawn at random until there are so many images: int64, ascending.

    Args:
        labels: int64 [n].
        images: the number at which drawing stops; at least that many if there are.
        seed: of the drawing.
    """
    if len(labels) <= images:
        return np.arange(len(labels))
    landmarks, label, count = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(landmarks))
    taken = order[: int(np.searchsorted(np.cumsum(count[order]), images)) + 1]
    return np.flatnonzero(np.isin(label, taken))


def _turns(labels: np.ndarray, seed: int) -> np.ndarray:
    """In which round each image is left out, int64 [n]; -1 for the only image of a landmark."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, first, count = np.unique(labels[order], return_index=True, return_counts=True)
    turns = np.empty(len(labels), np.int64)
    turns[order] = np.where(np.repeat(count, count) > 1, np.arange(len(labels)) - np.repeat(first, count), -1)
    return turns


def joined(labels_by_id: dict[str, int], rows: Rows, images: int, seed: int) -> Labelled:
    """The images that have both a label and a descriptor, or a sample of their landmarks.

    Args:
        labels_by_id: image id → landmark.
        rows: descriptors; images that could not be read are left out.
        images, seed: as in `sample`.

    Raises:
        DataError: an image with a descriptor has no label.
    """
    found = [labels_by_id.get(image_id) for image_id in rows.ids]
    if None in found:
        raise DataError(
            f"{found.count(None):,} of {len(found):,} images have descriptors, but no landmark in the training table, first "
            f"{rows.ids[found.index(None)]!r}. Embed the split train of the data set that --data names."
        )
    labels = np.array(found, np.int64)
    readable = np.flatnonzero(np.isfinite(rows.squared_norms))
    places = readable[sample(labels[readable], images, seed)]
    return Labelled(chosen(rows, places), labels[places])
