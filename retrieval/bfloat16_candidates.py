"""Candidates of a search on CPUs that multiply bfloat16 many times as fast as float32, as Intel's do since Sapphire Rapids (AMX).

Descriptors are rounded to bfloat16, PyTorch multiplies them and adds the products up in float32. The score (`retrieval.bounds`) of a query
q and a row x is made too large by what the rounding can have taken: with q', x' the rounded ones,

    q·x ≤ q'·x' + ‖q - q'‖ ‖x'‖ + ‖q‖ ‖x - x'‖,

where the norms of the differences are those of the descriptors at hand, not the worst ones. That is about .0034 for unit norms: more
than the distance from one rank to the next, so some more candidates are needed than with float32, and as certain.
"""

from typing import NamedTuple

import faiss
import numpy as np
import torch

from retrieval.bounds import EXTRA, error_share
from retrieval.candidates import QUERIES, keep_largest, require_norms

_TILE = 128
"""Rows that are rounded at a time, so that they stay in a processor's cache."""
_PIECES = 3
"""bfloat16 numbers that make a float32 one."""
_COLUMNS = _PIECES + 2
_UP = 1 + 2.0**-7
"""Makes a number that is rounded to bfloat16 not smaller than it was."""
_OUTPUT = 2.0**-8
"""By how much of itself a score can be larger than the bfloat16 number that comes out."""
_UNDERFLOW = 2.0**-44
"""More than what is lost where entries, their squares or products are so small that they count as 0."""
_MODERATE = 2.0**20
"""The squared norms for which that is so are between this and its inverse."""


class _Norms(NamedTuple):
    """Of descriptors x and rounded ones x': ‖x'‖ and ‖x - x'‖, not too small, float64 [n], and ‖x‖², float32 [n]."""

    rounded: np.ndarray
    lost: np.ndarray
    squared: np.ndarray


class Bfloat16Candidates:
    """`retrieval.candidates.Candidates` from products in bfloat16.

    Args:
        queries: float32 [q, D + 2], descriptors and columns that are not used here.
        norms: ‖q‖, float64 [q].
        m: rows to keep per query.
    """

    def __init__(self, queries: np.ndarray, norms: np.ndarray, m: int) -> None:
        self._dimensions = queries.shape[1] - EXTRA
        self._queries = torch.empty((len(queries), self._dimensions + _COLUMNS), dtype=torch.bfloat16)
        self._block = torch.empty((0, self._dimensions + _COLUMNS), dtype=torch.bfloat16)
        found = _round(queries[:, :-EXTRA], self._queries)
        columns = np.ones((len(queries), _COLUMNS), np.float32)
        columns[:, -2] = _UP * (found.lost + self._share * found.rounded)
        columns[:, -1] = _UP * norms
        self._queries[:, self._dimensions :] = torch.from_numpy(columns)
        self._heap = faiss.ResultHeap(len(queries), m, keep_max=True)
        self._products = torch.empty(0, dtype=torch.bfloat16)
        self._scores = torch.empty(0)

    @property
    def _share(self) -> float:
        return error_share(self._dimensions + _COLUMNS)

    def add(self, rows: np.ndarray, squared_norms: np.ndarray, start: int) -> None:
        """As `Candidates.add`."""
        readable = np.isfinite(squared_norms)
        if len(self._block) < len(rows):
            self._block = torch.empty((len(rows), self._block.shape[1]), dtype=torch.bfloat16)
        block = self._block[: len(rows)]
        found = _round(rows, block)
        require_norms(found.squared, squared_norms, self._dimensions, "the index")
        half = np.where(readable, squared_norms, 0) * ((1 - 2 * self._share) / 2)
        columns = np.empty((len(rows), _COLUMNS), np.float32)
        columns[:, :_PIECES] = _pieces(-np.nextafter(half.astype(np.float32), np.float32(0)))
        columns[:, -2], columns[:, -1] = _UP * found.rounded, _UP * found.lost
        columns[~readable, 0] = -np.inf
        block[:, self._dimensions :] = torch.from_numpy(columns)
        for first in range(0, len(self._queries), QUERIES):
            self._keep(slice(first, min(first + QUERIES, len(self._queries))), block, start)

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Candidates.best`."""
        worst = self._heap.D[:, 0].astype(np.float64)
        return self._heap.I, worst + _OUTPUT * np.abs(worst) + _UNDERFLOW

    def _keep(self, part: slice, block: torch.Tensor, start: int) -> None:
        shape = (part.stop - part.start, len(block))
        if self._scores.numel() < shape[0] * shape[1]:
            self._scores = torch.empty(shape[0] * shape[1])
            self._products = torch.empty(shape[0] * shape[1], dtype=torch.bfloat16)
        products, scores = (kept[: shape[0] * shape[1]].view(shape) for kept in (self._products, self._scores))
        torch.mm(self._queries[part], block.T, out=products)
        scores.copy_(products)
        keep_largest(self._heap, part, scores.numpy(), start)


def takes(squared_norms: np.ndarray) -> bool:
    """Whether the bound holds for descriptors with these norms, infinite ones left out."""
    known = squared_norms[np.isfinite(squared_norms)]
    return bool(((known >= 1 / _MODERATE) & (known <= _MODERATE)).all())


def _round(rows: np.ndarray, out: torch.Tensor) -> _Norms:
    """Writes descriptors [n, D] into the first columns of `out`, bfloat16 [n, D or more]; returns their norms."""
    dimensions = rows.shape[1]
    norms = torch.empty((len(_Norms._fields), len(rows)))
    for start in range(0, len(rows), _TILE):
        part = slice(start, start + _TILE)
        exact = torch.from_numpy(np.array(rows[part])).float()  # a copy: a mapped file is read-only
        out[part, :dimensions] = exact
        back = out[part, :dimensions].float()
        for number, values in enumerate((back, exact - back, exact)):
            norms[number, part] = torch.linalg.vecdot(values, values)
    share = 1 + error_share(dimensions)
    rounded, lost = np.sqrt(norms[:2].double().numpy() * share)
    return _Norms(rounded, lost, norms[2].numpy())


def _pieces(values: np.ndarray) -> np.ndarray:
    """float32 [n, 3], whose sums are `values` float32 [n]; bfloat16 has each of them exactly."""
    rest, pieces = torch.from_numpy(values), []
    for _ in range(_PIECES):
        pieces.append(rest.bfloat16().float())
        rest = rest - pieces[-1]
    return torch.stack(pieces, dim=1).numpy()
