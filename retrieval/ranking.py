"""A ranking: the nearest index images of each query, as row numbers, and the contest's predictions file."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.files import new_file


@dataclass(frozen=True, eq=False)
class Ranking:
    """The nearest index images of each query, nearest first.

    Attributes:
        query_ids: q ids.
        index_ids: N ids, which `rows` counts.
        rows: int32 [q, k], rows of the index. A negative one is no hit: an approximate search may find fewer than k.
        distances: float32 [q, k], Euclidean, ascending along a row, in the unit of the descriptors; infinite for no hit.
            k-reciprocal re-ranking (`retrieval.reciprocal`) replaces them by distances of its own.
    """

    query_ids: Sequence[str]
    index_ids: Sequence[str]
    rows: np.ndarray
    distances: np.ndarray

    @property
    def hits(self) -> Sequence[tuple[str, ...]]:
        """The ids of the index images found for each query; a query's are made when they are asked for."""
        return _Hits(self)


class _Hits(Sequence[tuple[str, ...]]):
    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking

    def __len__(self) -> int:
        return len(self._ranking.rows)

    def __getitem__(self, query: Any) -> Any:
        if isinstance(query, slice):
            return tuple(self[row] for row in range(*query.indices(len(self))))
        ids = self._ranking.index_ids
        return tuple(ids[row] for row in self._ranking.rows[query].tolist() if row >= 0)


def write_predictions(path: str | os.PathLike, ranking: Ranking) -> None:
    """Writes the contest's predictions file: `id,images`, the images separated by spaces, nearest first.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    with new_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "images"))
        writer.writerows((query, " ".join(hits)) for query, hits in zip(ranking.query_ids, ranking.hits, strict=True))
