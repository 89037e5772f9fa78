"""Candidates of a search on a GPU: the same products and the same bound as on CPUs, in PyTorch.

It imports PyTorch, so it is imported only where a search runs on a GPU or there may be one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from retrieval.bounds import row_columns
from retrieval.candidates import require_norms

_QUERIES = 8192
"""Queries that are multiplied with a block at a time."""


class TorchCandidates:
    """`retrieval.candidates.Candidates` on a device of PyTorch.

    Args:
        queries: float32 [q, D + 2], descriptors and `bounds.query_columns`.
        m: rows to keep per query.
        device: of PyTorch; `cpu` works too, for tests.
    """

    def __init__(self, queries: np.ndarray, m: int, device: str) -> None:
        self._device = torch.device(device)
        self._queries = torch.from_numpy(queries).to(self._device)
        self._scores = torch.full((len(queries), m), -torch.inf, device=self._device)
        self._rows = torch.full((len(queries), m), -1, dtype=torch.int64, device=self._device)

    def add(self, rows: np.ndarray, squared_norms: np.ndarray, start: int) -> None:
        """As `Candidates.add`. float16 rows are transferred as such and become float32 on the device."""
        dimensions = rows.shape[1]
        descriptors = torch.from_numpy(np.array(rows)).to(self._device).float()  # a copy: a mapped file is read-only
        norms = torch.linalg.vecdot(descriptors, descriptors).cpu().numpy()
        require_norms(norms, squared_norms, dimensions, "the index")
        columns = torch.from_numpy(row_columns(squared_norms, dimensions)).to(self._device)
        block = torch.cat([descriptors, columns], dim=1)
        numbers = torch.arange(start, start + len(rows), device=self._device)
        for first in range(0, len(self._queries), _QUERIES):
            self._keep(slice(first, first + _QUERIES), block, numbers)

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Candidates.best`."""
        return self._rows.cpu().numpy(), self._scores.min(dim=1).values.double().cpu().numpy()

    def _keep(self, part: slice, block: torch.Tensor, numbers: torch.Tensor) -> None:
        with _full_precision():
            scores = self._queries[part] @ block.T
        m = self._scores.shape[1]
        best = torch.topk(scores, min(m, scores.shape[1]), dim=1, sorted=False)
        scores = torch.cat([self._scores[part], best.values], dim=1)
        rows = torch.cat([self._rows[part], numbers[best.indices]], dim=1)
        best = torch.topk(scores, m, dim=1, sorted=False)
        self._scores[part], self._rows[part] = best.values, rows.gather(1, best.indices)


def count_gpus() -> int:
    """How many GPUs PyTorch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of float32 without TensorFloat-32 or bfloat16, whose errors the bound does not allow for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
