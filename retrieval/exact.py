"""Exact nearest neighbours by Euclidean distance, in blocks, so that neither an index nor its queries must fit into memory.

Products in float32 select somewhat more than k candidates per query, whose distances are computed again in float64. A strict bound of the
rounding errors (`retrieval.bounds`) certifies that no other image can be nearer than the k-th. For a query for which it does not, such as
one with hundreds of equal images around it, a second pass takes every image that could be. Candidates from products in bfloat16, whose
bound is larger, are selected once more in float32 first.
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

from retrieval.bounds import EXTRA, distances_to, least_score, query_columns
from retrieval.candidates import QUERIES, Candidates, HeapCandidates, Multiplier, require_norms
from retrieval.devices import BFLOAT16
from retrieval.metrics import CONTEST_K
from retrieval.ranking import Ranking
from retrieval.searchable import require_searchable
from retrieval.store import Rows

SLACK = 16
"""Candidates beyond k. Of descriptors like GLDv2's, the ranks 100 and 104 are farther apart already than the bound of the rounding."""
ROUGH_SLACK = 40
"""The same for products in bfloat16."""
WORTHWHILE = 5 * 10**11
"""Multiplications for which importing PyTorch pays."""
GROUP = 32_768
"""Queries that are compared in one pass over the index, fewer if their descriptors are long."""
BLOCK = 8192
"""Rows of the index that are multiplied at a time, fewer if they are long."""
_GROUP_BYTES, _BLOCK_BYTES = 320 << 20, 80 << 20
"""Of a group and of a block in float32."""
_RESCORED = 1024
"""Rows of the index that are copied at a time."""
_TASK = 32
"""Queries whose candidates a thread rescores at a time."""
_DELAY = 2.0
"""Seconds before a progress bar is shown."""


@dataclass(frozen=True)
class Nearest:
    """The nearest rows of each query, by (distance, row).

    Attributes:
        rows: int64 [q, k], numbers of index rows.
        distances: float64 [q, k].
    """

    rows: np.ndarray
    distances: np.ndarray


def search(index: Rows, queries: Rows, k: int = CONTEST_K, *, device: str = "cpu", progress: bool = True) -> Ranking:
    """Ranks the index for each query and keeps the min(k, n) nearest; equal distances keep the index's order.

    Args:
        index: n images that could be read, and any number of others, which are never found.
        queries: all of them could be read.
        k: neighbours per query.
        device: `cpu`, `bfloat16` or a device of PyTorch, such as `cuda` (`retrieval.devices`); the result is the same.
        progress: show a progress bar if it takes long.

    Raises:
        DataError: k is below 1, one of the two is empty, their descriptors differ in size or were made by different
            models, a distance overflows float32, or a file is damaged.
    """
    require_searchable(index, queries, k)
    found = nearest(index, queries, k, range(len(index.ids)), device, progress=progress)
    return Ranking(queries.ids, index.ids, found.rows.astype(np.int32), found.distances.astype(np.float32))


def nearest(index: Rows, queries: Rows, k: int, rows: range, device: str = "cpu", *, progress: bool = True) -> Nearest:
    """The nearest rows of an index, or of a part of it, for each query.

    Args:
        index, queries: descriptors of the same size, whose distances do not overflow float32. Rows of the index with an infinite
            squared norm are left out; no query has one.
        k: neighbours per query; fewer are returned if `rows` has fewer that were readable.
        rows: the part of the index, in steps of 1.
        device: `cpu`, `bfloat16`, or a device of PyTorch, such as `cuda` (`retrieval.devices`).
        progress: show a progress bar if it takes long.

    Raises:
        DataError: rows of the index are not those that its squared norms belong to.
    """
    readable = int(np.isfinite(index.squared_norms[rows.start : rows.stop]).sum())
    k = min(k, readable)
    found = Nearest(np.empty((len(queries.ids), k), np.int64), np.empty((len(queries.ids), k)))
    if not k:
        return found
    row_bytes, n = 4 * index.rows.shape[1], len(queries.ids)
    part = _Part(index, rows, readable, max(1, min(BLOCK, _BLOCK_BYTES // row_bytes)))
    step = max(1, min(GROUP, _GROUP_BYTES // row_bytes))
    with (
        ThreadPoolExecutor(max(1, faiss.omp_get_max_threads())) as pool,
        tqdm(
            total=len(rows) * n, desc="search", unit="pair", unit_scale=True, delay=_DELAY, disable=not progress
        ) as bar,
    ):
        for start in range(0, n, step):
            group = _Group.of(queries, slice(start, min(start + step, n)))
            own = _nearest_of_group(part, group, k, device, pool, bar)
            found.rows[group.place], found.distances[group.place] = own.rows, own.distances
    return found


@dataclass(frozen=True)
class _Group:
    """Queries in memory.

    Attributes:
        place: which queries they are, or are among.
        augmented: float32 [q, D + 2], descriptors and `bounds.query_columns`.
        norms: ‖q‖, float64 [q].
    """

    place: slice
    augmented: np.ndarray
    norms: np.ndarray

    @classmethod
    def of(cls, queries: Rows, place: slice) -> "_Group":
        rows, squared = queries.rows[place], queries.squared_norms[place]
        augmented = np.empty((len(rows), rows.shape[1] + EXTRA), np.float32)
        descriptors = augmented[:, :-EXTRA]
        descriptors[:] = rows
        require_norms(np.einsum("qd,qd->q", descriptors, descriptors), squared, rows.shape[1], "the queries")
        augmented[:, -EXTRA:] = query_columns(np.sqrt(squared), rows.shape[1])
        return cls(place, augmented, np.sqrt(squared))

    def only(self, queries: np.ndarray) -> "_Group":
        """Some of the queries."""
        return _Group(self.place, self.augmented[queries], self.norms[queries])

    def descriptor(self, query: int) -> np.ndarray:
        """float64 [D]."""
        return self.augmented[query, :-EXTRA].astype(np.float64)


@dataclass(frozen=True)
class _Part:
    """The part of an index that is searched.

    Attributes:
        index: the whole index.
        rows: those that are searched.
        readable: how many of them could be read.
        step: rows of a block.
    """

    index: Rows
    rows: range
    readable: int
    step: int

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Descriptors [n, D], their squared norms [n] and the number of the first one."""
        for start in self.rows[:: self.step]:
            stop = min(start + self.step, self.rows.stop)
            yield self.index.rows[start:stop], self.index.squared_norms[start:stop], start


def _nearest_of_group(part: _Part, group: _Group, k: int, device: str, pool: Executor, bar: tqdm) -> Nearest:
    if k + SLACK >= part.readable:
        return _rescored(part, group, _all_rows(part, group, pool, bar), k, pool)
    if device == BFLOAT16 and not _bfloat16_pays(part, group):
        device = "cpu"
    made = _candidates(part, group, k, device, pool)
    for rows, squared_norms, start in part.blocks():
        made.add(rows, squared_norms, start)
        bar.update(len(rows) * len(group.norms))
    candidates, worst = made.best()
    found = _rescored(part, group, candidates, k, pool)
    least = least_score(found.distances[:, -1], group.norms, part.index.rows.shape[1])
    uncertain = np.flatnonzero(~(worst < least))
    if device == BFLOAT16 and len(uncertain):
        bar.total += len(part.rows) * len(uncertain)
        again = _nearest_of_group(part, group.only(uncertain), k, "cpu", pool, bar)
        found.rows[uncertain], found.distances[uncertain] = again.rows, again.distances
    else:
        _complete(part, group, uncertain, least, found, pool)
    return found


def _all_rows(part: _Part, group: _Group, pool: Executor, bar: tqdm) -> np.ndarray:
    """Every readable row as a candidate of every query, int64 [q, readable], one row in memory."""
    multiply, found = Multiplier(group.augmented.shape[1], pool), []
    for rows, squared_norms, start in part.blocks():
        multiply.load(rows, squared_norms)  # compares the norms
        found.append(start + np.flatnonzero(np.isfinite(squared_norms)))
        bar.update(len(rows) * len(group.norms))
    return np.broadcast_to(np.concatenate(found), (len(group.norms), part.readable))


def _bfloat16_pays(part: _Part, group: _Group) -> bool:
    """Whether products in bfloat16 are faster here than in float32, and their bound holds."""
    if part.readable * group.augmented.size < WORTHWHILE:
        return False
    from retrieval.bfloat16_candidates import takes

    return takes(group.norms**2) and takes(part.index.squared_norms)


def _candidates(part: _Part, group: _Group, k: int, device: str, pool: Executor) -> Candidates:
    """What keeps somewhat more than k candidates of each query; PyTorch is imported only where it is needed."""
    if device == "cpu":
        return HeapCandidates(group.augmented, k + SLACK, pool)
    if device == BFLOAT16:
        from retrieval.bfloat16_candidates import Bfloat16Candidates

        return Bfloat16Candidates(group.augmented, group.norms, min(k + ROUGH_SLACK, part.readable))
    from retrieval.torch_candidates import TorchCandidates

    return TorchCandidates(group.augmented, k + SLACK, device)


def _rescored(part: _Part, group: _Group, candidates: np.ndarray, k: int, pool: Executor) -> Nearest:
    """The k nearest of each query's candidates, by their distances in float64."""
    found = Nearest(np.empty((len(candidates), k), np.int64), np.empty((len(candidates), k)))

    def rescore(first: int) -> None:
        for query in range(first, min(first + _TASK, len(candidates))):
            rows = np.sort(candidates[query])  # a mapped file is read in order
            distances = _distances(part.index.rows, rows, group.descriptor(query))
            order = np.argsort(distances, kind="stable")[:k]
            found.rows[query], found.distances[query] = rows[order], distances[order]

    list(pool.map(rescore, range(0, len(candidates), _TASK)))
    return found


def _distances(descriptors: np.ndarray, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Distances in float64 to some rows of the index [N, D], of which `_RESCORED` are in memory at a time."""
    parts = np.split(rows, range(_RESCORED, len(rows), _RESCORED))
    return np.concatenate([distances_to(query, descriptors[own]) for own in parts])


def _complete(
    part: _Part, group: _Group, uncertain: np.ndarray, least: np.ndarray, found: Nearest, pool: Executor
) -> None:
    """Takes, for the queries that are not certified, every row with a score of at least `least` [q] into account."""
    multiply = Multiplier(group.augmented.shape[1], pool)
    for first in range(0, len(uncertain), QUERIES):
        some = uncertain[first : first + QUERIES]
        queries, bounds = group.augmented[some], least[some].astype(np.float32)
        bounds = np.nextafter(bounds, np.float32(-np.inf))
        found.distances[some] = np.inf
        for rows, squared_norms, start in tqdm(
            part.blocks(), "ties", -(-len(part.rows) // part.step), unit="block", delay=_DELAY, leave=False
        ):
            multiply.load(rows, squared_norms)
            near = multiply.scores(queries) >= bounds[:, None]
            for place in np.flatnonzero(near.any(axis=1)):
                query = int(some[place])
                _merge(found, query, group.descriptor(query), multiply, np.flatnonzero(near[place]), start)


def _merge(
    found: Nearest, query: int, descriptor: np.ndarray, block: Multiplier, places: np.ndarray, start: int
) -> None:
    """Takes rows of a block, all behind those that were found before, among the nearest of a query."""
    for first in range(0, len(places), _RESCORED):
        some = places[first : first + _RESCORED]
        rows = np.concatenate([found.rows[query], some + start])
        distances = np.concatenate([found.distances[query], distances_to(descriptor, block.descriptors(some))])
        order = np.argsort(distances, kind="stable")[: found.rows.shape[1]]
        found.rows[query], found.distances[query] = rows[order], distances[order]
