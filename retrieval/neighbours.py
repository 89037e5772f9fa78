"""The nearest images of each image of a set, in another set or among its own others, as row numbers.

Re-ranking needs them for every image of an index. They are searched for a block of images at a time, so a store's rows stay where they
are, and only the lists, 8 bytes per neighbour, are in memory.
"""

from typing import NamedTuple

import numpy as np

from retrieval.exact import search
from retrieval.store import Rows, Selection, chosen

_BLOCK = 65536


class Neighbours(NamedTuple):
    """Lists of the same length for n images.

    Attributes:
        rows: int32 [n, k], nearest first; -1 after the last one.
        distances: float32 [n, k], Euclidean, ascending; infinite after the last one.
    """

    rows: np.ndarray
    distances: np.ndarray

    def nearest(self, k: int) -> "Neighbours":
        """The first k of each list."""
        return Neighbours(self.rows[:, :k], self.distances[:, :k])


def neighbours(images: Rows, among: Rows, k: int, *, device: str = "cpu") -> Neighbours:
    """The nearest images of another set.

    Args:
        images: n images; one that could not be read gets an empty list.
        among: the other set; images of it that could not be read are in no list.
        k: length of the lists.
        device: as in `retrieval.exact.search`.
    """
    found = _nothing(len(images.ids), k)
    for start in range(0, len(images.ids), _BLOCK):
        places, block = _readable(images, start)
        if len(places):
            ranking = search(among, block, k, device=device)
            _fill(found, places, ranking.rows, ranking.distances)
    return found


def other_neighbours(images: Rows, k: int, *, device: str = "cpu") -> Neighbours:
    """The nearest others of each image of a set; otherwise as `neighbours`."""
    found = _nothing(len(images.ids), k)
    for start in range(0, len(images.ids), _BLOCK):
        places, block = _readable(images, start)
        if not len(places):
            continue
        ranking = search(images, block, k + 1, device=device)
        others = ranking.rows != places[:, None]
        others[others.all(axis=1), -1] = False  # more than k images are equal to this one, so it is not in its own list
        shape = len(places), ranking.rows.shape[1] - 1
        _fill(found, places, ranking.rows[others].reshape(shape), ranking.distances[others].reshape(shape))
    return found


def cosines(distances: np.ndarray, own: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Cosines of descriptors from their Euclidean distances, float64 [n, k]; 0 where there is no neighbour.

    Args:
        distances: float32 [n, k].
        own: float64 [n], squared norms of the images.
        theirs: float64 [n, k], squared norms of their neighbours.
    """
    known = np.isfinite(distances) & np.isfinite(theirs) & np.isfinite(own)[:, None]
    own = np.broadcast_to(own[:, None], distances.shape)[known]
    theirs, squared = theirs[known], np.square(distances[known], dtype=np.float64)
    found = np.zeros(distances.shape)
    found[known] = np.clip((own + theirs - squared) / (2 * np.sqrt(own) * np.sqrt(theirs)), -1, 1)
    return found


def _nothing(images: int, k: int) -> Neighbours:
    return Neighbours(np.full((images, k), -1, np.int32), np.full((images, k), np.inf, np.float32))


def _readable(images: Rows, start: int) -> tuple[np.ndarray, Selection]:
    """The rows of a block that could be read, and their descriptors; of a whole block nothing is copied."""
    part = slice(start, start + _BLOCK)
    norms = images.squared_norms[part]
    places = start + np.flatnonzero(np.isfinite(norms))
    if len(places) < len(norms):
        return places, chosen(images, places)
    return places, Selection(images.ids[part], images.rows[part], norms, images.source)


def _fill(found: Neighbours, places: np.ndarray, rows: np.ndarray, distances: np.ndarray) -> None:
    length = rows.shape[1]
    found.rows[places, :length] = rows
    found.distances[places, :length] = distances
