"""Which hits of a ranking are right. Every metric of `retrieval.metrics` is a sum over them.

A hit is right if its image is relevant and was not found at an earlier rank. The hits may be ids, as in a predictions file, or rows of
the index, as a search returns them. Rows are compared in numpy, a block of queries per thread: first with a table of hashed pairs
(query, row), which rules nearly all wrong hits out, then exactly by binary search.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from multiprocessing.pool import ThreadPool

import numpy as np

from retrieval.ranking import Ranking

_QUERIES = 1024
"""Per block: the table of hashes of a block, and the hits that pass it, stay in the processor's cache."""
_ROW_FACTOR, _QUERY_FACTOR = np.uint32(0x9E3779B1), np.uint32(0x85EBCA77)
"""Odd numbers without a pattern; a product with them spreads consecutive numbers over all 32 bits."""


@dataclass(frozen=True, eq=False)
class RightHits:
    """The right ones among the first K hits of each query.

    Attributes:
        queries: int64 [m], the number of each right hit's query, 0 to q - 1; those of a query are beside each other.
        ranks: int64 [m], its rank, 1 to K, ascending within a query.
        relevant: int64 [q], how many relevant ids each query has, repeated ones included.
        k: ranks that count.
    """

    queries: np.ndarray
    ranks: np.ndarray
    relevant: np.ndarray
    k: int

    def average_precisions(self) -> np.ndarray:
        """AP@K of each query, float64 [q]: the sum over right hits of (right hits so far / rank), divided by min(relevant, K)."""
        first = self._first()
        so_far = np.arange(1, len(self.queries) + 1) - np.repeat(first, np.diff(first, append=len(self.queries)))
        sums = np.bincount(self.queries, weights=so_far / self.ranks, minlength=len(self.relevant))
        return sums / np.minimum(self.relevant, self.k)

    def mean_precisions(self) -> np.ndarray:
        """Mean precision over the queries at each rank, float64 [K]."""
        found = np.cumsum(np.bincount(self.ranks - 1, minlength=self.k))
        return found / np.arange(1, self.k + 1) / len(self.relevant)

    def positions(self) -> np.ndarray:
        """Rank of each query's first right hit, int64 [q]; K + 1 if there is none."""
        ranks, first = np.full(len(self.relevant), self.k + 1), self._first()
        ranks[self.queries[first]] = self.ranks[first]
        return ranks

    def _first(self) -> np.ndarray:
        """Where the right hits of each query that has some begin, int64."""
        return np.flatnonzero(np.diff(self.queries, prepend=-1))


def of_ids(predictions: Mapping[str, Sequence[str]], truth: Mapping[str, Collection[str]], k: int) -> RightHits:
    """The right hits of lists of ids, nearest first; a query without a list has none.

    Args:
        predictions: query id → ids of its hits.
        truth: query id → ids of its relevant images; its order numbers the queries.
        k: ranks that count.
    """
    counts: list[int] = []
    ranks: list[int] = []
    for query, relevant in truth.items():
        wanted, found = set(relevant), {}
        for rank, hit in enumerate(predictions.get(query, ())[:k], start=1):
            if hit in wanted:
                found.setdefault(hit, rank)
        counts.append(len(found))
        ranks += found.values()
    return RightHits(np.repeat(np.arange(len(counts)), counts), np.array(ranks, np.int64), _lengths(truth), k)


def of_ranking(ranking: Ranking, truth: Mapping[str, Collection[str]], k: int) -> RightHits:
    """The right hits of a search; queries that `truth` does not name are left out. Otherwise as `of_ids`."""
    return TruthRows(truth, ranking.query_ids, ranking.index_ids).right_hits(ranking.rows, k)


class TruthRows:
    """The ground truth as row numbers of an index, for any number of rankings of the same queries in this index.

    Args:
        truth: query id → ids of its relevant images; its order numbers the queries.
        query_ids: of the rows of the rankings, each once.
        index_ids: of the rows of the index, each once. A relevant image that it does not hold is never found.
    """

    def __init__(
        self, truth: Mapping[str, Collection[str]], query_ids: Sequence[str], index_ids: Sequence[str]
    ) -> None:
        self.relevant = _lengths(truth)
        """int64 [q], how many relevant ids each query has, repeated ones included."""
        number = {query: place for place, query in enumerate(truth)}
        searched = [(number[query], place) for place, query in enumerate(query_ids) if query in number]
        self._numbers, self._places = np.array(searched, np.int64).reshape(-1, 2).T
        self._rows_of_index = len(index_ids)
        row = dict(zip(index_ids, range(len(index_ids)), strict=True))
        names = list(truth.values())
        wanted = list(chain.from_iterable(names[place] for place in self._numbers))
        self._rows = np.fromiter(map(row.get, wanted, repeat(-1)), np.int64, len(wanted))
        self._ends = np.concatenate([[0], np.cumsum(self.relevant[self._numbers])])

    def right_hits(self, rows: np.ndarray, k: int) -> RightHits:
        """The right hits of a ranking.

        Args:
            rows: int [number of query ids, any], rows of the index, nearest first; a negative one is no hit.
            k: ranks that count.
        """
        count = len(self._numbers)
        blocks = [(start, min(start + _QUERIES, count)) for start in range(0, count, _QUERIES)]
        if len(blocks) > 1:
            with ThreadPool(min(len(blocks), os.cpu_count() or 1)) as pool:
                found = pool.starmap(lambda start, end: self._block(rows, k, start, end), blocks, chunksize=1)
        else:
            found = [self._block(rows, k, start, end) for start, end in blocks]
        none = np.empty(0, np.int64)
        places = np.concatenate([none, *(queries for queries, _ in found)])
        ranks = np.concatenate([none, *(own for _, own in found)])
        return RightHits(self._numbers[places], ranks, self.relevant, k)

    def _block(self, rows: np.ndarray, k: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Places among the searched queries, and ranks, of the right hits of the queries from `start` to `end`."""
        places = self._places[start:end]
        in_order = places[-1] - places[0] == end - start - 1 and (np.diff(places) == 1).all()
        hits = rows[places[0] : places[-1] + 1, :k] if in_order else rows[places, :k]
        relevant = self._rows[self._ends[start] : self._ends[end]]
        owners = np.repeat(np.arange(end - start), np.diff(self._ends[start : end + 1]))
        known = relevant >= 0
        relevant, owners = relevant[known], owners[known]
        at = _possible(hits, relevant, owners)
        found = hits.reshape(-1)[at]
        at, found = at[found >= 0], found[found >= 0]
        queries, ranks = np.divmod(at, hits.shape[1] or 1)
        pairs = queries * self._rows_of_index + found
        right = _first_of_members(pairs, np.sort(owners * self._rows_of_index + relevant))
        return queries[right] + start, ranks[right] + 1


def _possible(hits: np.ndarray, relevant: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Positions in the flat `hits` [q, k] of all that are relevant, and of a few per cent of the others, int64."""
    bits = max(16, len(relevant).bit_length() + 4)  # at most a sixteenth of the table is filled
    shift = np.uint32(32 - bits)
    table = np.zeros(1 << bits, bool)
    table[(relevant.astype(np.uint32) * _ROW_FACTOR + owners.astype(np.uint32) * _QUERY_FACTOR) >> shift] = True
    keys = hits.astype(np.uint32)
    keys *= _ROW_FACTOR
    keys += np.arange(len(hits), dtype=np.uint32)[:, None] * _QUERY_FACTOR
    keys >>= shift
    return np.flatnonzero(table[keys])


def _first_of_members(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Positions of the values that are among the sorted members and have not occurred before, int64, ascending."""
    place = np.searchsorted(members, values)
    inside = np.flatnonzero(place < len(members))
    chosen = inside[members[place[inside]] == values[inside]]
    return chosen[np.sort(np.unique(values[chosen], return_index=True)[1])]


def _lengths(truth: Mapping[str, Collection[str]]) -> np.ndarray:
    return np.fromiter((len(relevant) for relevant in truth.values()), np.int64, len(truth))
