"""The rows of an index that may be among the nearest of some queries, found block by block with products in float32."""

from concurrent.futures import Executor
from typing import Protocol

import faiss
import numpy as np

from retrieval.bounds import EXTRA, row_columns, squared_norm_error
from zoo.errors import DataError

QUERIES = 2048
"""Queries that are multiplied with a block at a time."""
_TASK = 1024
"""Rows that a thread converts at a time."""


class Candidates(Protocol):
    """Keeps, for each query of a group, the rows with the largest scores (`retrieval.bounds`) of all blocks that were added."""

    def add(self, rows: np.ndarray, squared_norms: np.ndarray, start: int) -> None:
        """Compares a block with the queries.

        Args:
            rows: descriptors, float16 or float32 [n, D].
            squared_norms: ‖x‖², float64 [n]; infinite for a row that is never kept.
            start: number of the block's first row.

        Raises:
            DataError: the norms are not those of the rows.
        """
        ...

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers int64 [q, m], in any order, and the smallest score among a query's, float64 [q].

        At least m of the rows that were added have finite norms.
        """
        ...


class HeapCandidates:
    """Candidates on CPUs: numpy's product, which runs on all cores, and faiss's heaps.

    Args:
        queries: float32 [q, D + 2], descriptors and `bounds.query_columns`.
        m: rows to keep per query.
        pool: threads that convert rows to float32.
    """

    def __init__(self, queries: np.ndarray, m: int, pool: Executor) -> None:
        self._queries = queries
        self._multiply = Multiplier(queries.shape[1], pool)
        self._heap = faiss.ResultHeap(len(queries), m, keep_max=True)

    def add(self, rows: np.ndarray, squared_norms: np.ndarray, start: int) -> None:
        """As `Candidates.add`."""
        self._multiply.load(rows, squared_norms)
        for first in range(0, len(self._queries), QUERIES):
            part = slice(first, min(first + QUERIES, len(self._queries)))
            keep_largest(self._heap, part, self._multiply.scores(self._queries[part]), start)

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Candidates.best`."""
        return self._heap.I, self._heap.D[:, 0].astype(np.float64)  # the first of a heap is its smallest


def keep_largest(heaps: faiss.ResultHeap, part: slice, scores: np.ndarray, start: int) -> None:
    """Adds a block's scores to the heaps of some queries; `ResultHeap.add_result` takes those of all queries only.

    Args:
        heaps: of all queries.
        part: the queries whose scores these are.
        scores: float32 [q, n].
        start: number of the block's first row.
    """
    heap = faiss.float_minheap_array_t()
    ids, values = heaps.I[part], heaps.D[part]
    heap.nh, heap.k = ids.shape
    heap.ids, heap.val = faiss.swig_ptr(ids), faiss.swig_ptr(values)
    heap.addn(scores.shape[1], faiss.swig_ptr(scores), start, 0, len(ids))  # pyright: ignore[reportCallIssue]


class Multiplier:
    """A block of the index in float32 and its products with queries; the memory of both is used again.

    Args:
        columns: D + 2.
        pool: threads that convert.
    """

    def __init__(self, columns: int, pool: Executor) -> None:
        self._pool = pool
        self._block = np.empty((0, columns), np.float32)
        self._loaded = self._block
        self._scores = np.empty(0, np.float32)

    def load(self, rows: np.ndarray, squared_norms: np.ndarray) -> None:
        """Takes a block; arguments and errors are those of `Candidates.add`."""
        if len(self._block) < len(rows):
            self._block = np.empty((len(rows), self._block.shape[1]), np.float32)
        self._loaded = self._block[: len(rows)]
        found = np.empty(len(rows), np.float32)

        def convert(first: int) -> None:
            part = self._loaded[first : first + _TASK, :-EXTRA]
            part[:] = rows[first : first + _TASK]
            np.einsum("nd,nd->n", part, part, out=found[first : first + _TASK])

        list(self._pool.map(convert, range(0, len(rows), _TASK)))
        require_norms(found, squared_norms, rows.shape[1], "the index")
        self._loaded[:, -EXTRA:] = row_columns(squared_norms, rows.shape[1])

    def descriptors(self, places: np.ndarray) -> np.ndarray:
        """Some rows of the block, float32 [m, D]."""
        return self._loaded[places, :-EXTRA]

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """Scores float32 [q, n] of queries [q, D + 2]; valid until the next call."""
        size = len(queries) * len(self._loaded)
        if len(self._scores) < size:
            self._scores = np.empty(size, np.float32)
        out = self._scores[:size].reshape(len(queries), len(self._loaded))
        return np.matmul(queries, self._loaded.T, out=out)


def require_norms(found: np.ndarray, expected: np.ndarray, dimensions: int, what: str) -> None:
    """Raises `DataError` unless descriptors have the squared norms that are stored with them.

    Args:
        found: ‖x‖² as float32 adds it up, [n].
        expected: float64 [n]; infinite for a row that could not be read.
        dimensions: D.
        what: whose they are, for the message.
    """
    known = np.isfinite(expected)
    allowed = squared_norm_error(expected, dimensions)
    wrong = ~(np.abs(found - np.where(known, expected, 0)) <= allowed) & known
    if wrong.any():
        raise DataError(
            f"{what}: the descriptor of row {int(wrong.argmax())} of a block of {len(wrong):,} has the squared norm "
            f"{found[wrong][0]:.6g}, and {expected[wrong][0]:.6g} is stored with it. The file is damaged; embed the images again."
        )
