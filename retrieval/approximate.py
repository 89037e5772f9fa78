"""Approximate nearest neighbours: an index of faiss, named by its factory string, and how many of the exact neighbours it finds.

In a batch, it saves little: on CPUs the exact search is about as fast as an inverted file that finds nine of ten neighbours. It pays for
single queries and for indexes of hundreds of millions of images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np
from tqdm import tqdm

from retrieval.bounds import distances_to
from retrieval.exact import search
from retrieval.metrics import CONTEST_K
from retrieval.ranking import Ranking
from retrieval.searchable import require_searchable
from retrieval.store import Rows, chosen
from zoo.errors import DataError, SpecError

TRAINING_ROWS = 65_536
"""Images that an index is trained on, chosen at random; all of them if there are fewer."""
SAMPLE = 200
"""Queries, chosen at random, whose exact neighbours are searched to measure the recall."""
_BLOCK = 8192
_QUERIES = 1024
_SEED = 0
_DELAY = 2.0
"""Seconds before a progress bar is shown."""
_GUIDE = "https://github.com/facebookresearch/faiss/wiki/The-index-factory explains the names."


class Recall(NamedTuple):
    """The share of the exact neighbours that were found, on average over some queries, and how many queries these are."""

    share: float
    queries: int


def approximate_index(index: Rows, factory: str, parameters: str = "") -> Any:
    """An index of faiss, trained on a sample and filled block by block with the images that could be read.

    Args:
        index: descriptors.
        factory: for `faiss.index_factory`, for example "IVF1024,Flat".
        parameters: for `faiss.ParameterSpace`, for example "nprobe=32".

    Raises:
        SpecError: faiss does not know the factory string or a parameter.
        DataError: there are too few images to train the index.
    """
    made = _told(lambda: faiss.index_factory(index.rows.shape[1], factory, faiss.METRIC_L2), f"index {factory!r}")
    readable = _readable(index)
    if not made.is_trained:
        count = min(TRAINING_ROWS, len(readable))
        sample = np.sort(np.random.default_rng(_SEED).choice(readable, count, replace=False))
        try:
            made.train(_float32(index, sample))
        except RuntimeError as error:
            raise DataError(
                f"the index {factory!r} cannot be trained on {count:,} images: {_reason(error)}. Choose a smaller one."
            ) from error
    for start in tqdm(range(0, len(readable), _BLOCK), f"fill {factory}", unit="block", delay=_DELAY):
        made.add(_float32(index, readable[start : start + _BLOCK]))
    if parameters:
        _told(
            lambda: faiss.ParameterSpace().set_index_parameters(made, parameters), f"search parameters {parameters!r}"
        )
    return made


def approximate_search(index: Rows, queries: Rows, made: Any, k: int = CONTEST_K) -> Ranking:
    """Ranks with an index of faiss. Distances are computed again in float64 and sorted: only what faiss did not find is missing.

    Args:
        index, queries, k: as in `retrieval.exact.search`.
        made: `approximate_index` of `index`.

    Raises:
        DataError: as `retrieval.exact.search`.
    """
    require_searchable(index, queries, k)
    readable = _readable(index)
    k = min(k, len(readable))
    rows, distances = np.full((len(queries.ids), k), -1, np.int32), np.full((len(queries.ids), k), np.inf, np.float32)
    for start in tqdm(range(0, len(rows), _QUERIES), "search", unit="block", delay=_DELAY):
        block = _float32(queries, np.arange(start, min(start + _QUERIES, len(rows))))
        found = made.search(block, k)[1]
        for query, (descriptor, places) in enumerate(zip(block, found, strict=True), start):
            hits = np.sort(readable[places[places >= 0]])
            exact = distances_to(descriptor.astype(np.float64), _float32(index, hits))
            order = np.argsort(exact, kind="stable")
            rows[query, : len(hits)], distances[query, : len(hits)] = hits[order], exact[order]
    return Ranking(queries.ids, index.ids, rows, distances)


def measure_recall(index: Rows, queries: Rows, found: Ranking, sample: int = SAMPLE, *, device: str = "cpu") -> Recall:
    """How many of the exact k neighbours a ranking has, for a sample of its queries.

    Args:
        index, queries: what was searched.
        found: the ranking.
        sample: queries to take.
        device: of the exact search, as in `retrieval.exact.search`.
    """
    n, k = found.rows.shape
    places = np.sort(np.random.default_rng(_SEED).choice(n, min(sample, n), replace=False))
    right = search(index, chosen(queries, places), k, device=device).rows
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found.rows[places], right, strict=True)]
    return Recall(float(np.mean(shared)) / k, len(places))


def _readable(index: Rows) -> np.ndarray:
    return np.flatnonzero(np.isfinite(index.squared_norms))


def _told(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except RuntimeError as error:
        raise SpecError(f"faiss does not take the {what}: {_reason(error)}. {_GUIDE}") from error


def _reason(error: RuntimeError) -> str:
    """What faiss said, without the place in its source."""
    return " ".join(str(error).rpartition("\n")[2].split()).rpartition("Error: ")[2][:200]


def _float32(rows: Rows, places: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows.rows[places], dtype=np.float32)
