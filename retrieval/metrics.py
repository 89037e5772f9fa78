"""The contest's metrics and the reading of its solution and prediction files.

The definitions are DELF's (tensorflow/models, research/delf, datasets/google_landmarks_dataset: metrics.py and
dataset_file_io.py), with which the organisers score. If DELF would divide by zero or raise a bare `KeyError`, a
`DataError` explains the problem.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from retrieval.data.csv_tables import read_rows
from zoo.errors import DataError

T = TypeVar("T")

NO_SOLUTION = "If there is none, search without --data: that writes the neighbours and scores nothing."
"""What to do about a solution that is missing or empty."""


class Recognition(NamedTuple):
    """A recognition submission's landmark for an image, and its confidence on any scale."""

    landmark: int
    score: float


@dataclass(frozen=True)
class Predictions(Generic[T]):
    """The predictions for each query of the public and the private part."""

    public: dict[str, T] = field(default_factory=dict)
    private: dict[str, T] = field(default_factory=dict)

    @property
    def everything(self) -> dict[str, T]:
        """Both parts merged."""
        return self.public | self.private


@dataclass(frozen=True)
class Solution(Predictions[T]):
    """The ground truth for each query of the public and the private part, and the queries that are not scored."""

    ignored: list[str] = field(default_factory=list)


class RetrievalSolution(Solution[tuple[str, ...]]):
    """Query id → ids of the relevant index images, never empty."""


class RetrievalPredictions(Predictions[tuple[str, ...]]):
    """Query id → ids of the index images found, nearest first."""


class RecognitionSolution(Solution[tuple[int, ...]]):
    """Query id → landmark ids; empty if the image shows no landmark."""


class RecognitionPredictions(Predictions[Recognition]):
    """Query id → the one predicted landmark."""


def mean_average_precision(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Collection[str]], k: int = 100
) -> float:
    """mAP@K: the mean of `average_precision` over all queries of the solution; one without a prediction counts as 0.

    Raises:
        DataError: K is below 1, the solution is empty or has a query without relevant images, or a predicted query is not in it.
    """
    _check(predictions, solution, k)
    return sum(average_precision(hits, solution[query], k) for query, hits in predictions.items()) / len(solution)


def bootstrap_interval(
    values: Sequence[float], *, share: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Interval of the mean of per-query values by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: one per query, for example AP@100.
        share: of the resampled means that the interval holds.
        resamples: how often queries are drawn with replacement.
        seed: of the drawing; the same values give the same interval.

    Raises:
        DataError: there are no values.
    """
    if not len(values):
        raise DataError("there are no scored queries, so there is no interval.")
    numbers, generator = np.asarray(values, np.float64), np.random.default_rng(seed)
    means = [numbers[generator.integers(len(numbers), size=len(numbers))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def average_precision(hits: Sequence[str], relevant: Collection[str], k: int = 100) -> float:
    """AP@K of one query: the sum over right hits of (right hits so far / rank), divided by min(len(relevant), K).

    A repeated hit counts once, at its first rank; its repetition still takes up a rank.
    """
    right = _right(hits, relevant, k)
    return float(np.sum(np.cumsum(right)[right] / (np.flatnonzero(right) + 1))) / min(len(relevant), k)


def mean_precisions(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Collection[str]], k: int = 100
) -> np.ndarray:
    """Mean precision at each rank, float64 [K]; element 0 is P@1.

    Beyond the end of a short list the precision continues as (right hits so far / rank).

    Raises:
        DataError: as `mean_average_precision`.
    """
    _check(predictions, solution, k)
    total = np.zeros(k)
    for query, hits in predictions.items():
        total += np.cumsum(_right(hits, solution[query], k)) / np.arange(1, k + 1)
    return total / len(solution)


def mean_median_position(
    predictions: Mapping[str, Sequence[str]], solution: Mapping[str, Collection[str]], k: int = 100
) -> tuple[float, float]:
    """Mean and median over all queries of the first right hit's rank (from 1), which is K + 1 if there is none.

    Raises:
        DataError: as `mean_average_precision`.
    """
    _check(predictions, solution, k)
    positions = np.full(len(solution), k + 1)
    for row, (query, hits) in enumerate(predictions.items()):
        right = _right(hits, solution[query], k)
        if right.any():
            positions[row] = right.argmax() + 1
    return float(positions.mean()), float(np.median(positions))


def global_average_precision(
    predictions: Mapping[str, Recognition], solution: Mapping[str, Collection[int]], *, ignore_empty: bool = False
) -> float:
    """GAP, also µAP: average precision over all predictions, sorted by confidence.

    Ties are broken by query id, then by landmark, both ascending. The divisor is the number of queries that show a
    landmark.

    Args:
        predictions: query id → `Recognition`, or any (landmark, score) pair.
        solution: query id → its landmarks; empty if the image shows none.
        ignore_empty: leave predictions for images without a landmark out, instead of counting them as wrong.

    Raises:
        DataError: no query shows a landmark, a predicted query is not in the solution, or a score is NaN.
    """
    _require_known(predictions, solution)
    positives = sum(bool(truth) for truth in solution.values())
    if not positives:
        raise DataError("the solution holds no query with a landmark; GAP needs at least one. Check the solution file.")
    unsure = next((query for query, (_, score) in predictions.items() if math.isnan(score)), None)
    if unsure is not None:
        raise DataError(f"the score of query {unsure!r} is NaN, which has no place in a ranking; expected a number.")

    surest_first = sorted(predictions.items(), key=lambda item: (-item[1][1], item[0], item[1][0]))
    scored = [(query, landmark) for query, (landmark, _) in surest_first if solution[query] or not ignore_empty]
    right = np.array([landmark in solution[query] for query, landmark in scored], dtype=bool)
    return float(np.sum(np.cumsum(right)[right] / (np.flatnonzero(right) + 1))) / positives


def read_retrieval_solution(path: str | os.PathLike) -> RetrievalSolution:
    """Reads `id,images,Usage`, where Usage is Public, Private or Ignored and images are separated by one space.

    Raises:
        DataError: the file is missing, has another header, repeats an id or has another Usage, or a scored query has no
            image.
    """

    def images(cell: str) -> tuple[str, ...]:
        relevant = tuple(cell.split(" "))
        if "" in relevant:
            raise ValueError(f"expected image ids separated by one space, found {cell!r}")
        return relevant

    return RetrievalSolution(*_read_solution(path, "images", images))


def read_recognition_solution(path: str | os.PathLike) -> RecognitionSolution:
    """Reads `id,landmarks,Usage`; an empty landmarks cell means an image without a landmark.

    Raises:
        DataError: the file is missing, has another header, repeats an id or has another Usage, or a landmark is not a
            number.
    """
    return RecognitionSolution(
        *_read_solution(path, "landmarks", lambda cell: tuple(int(part) for part in cell.split(" ")) if cell else ())
    )


def read_retrieval_predictions(path: str | os.PathLike, solution: Solution) -> RetrievalPredictions:
    """Reads `id,images` for the scored queries of `solution`, nearest image first.

    Ignored queries and rows without a prediction are skipped; one space at the end of a row is tolerated.

    Raises:
        DataError: the file is missing, has another header, repeats an id, or holds an id that is not in the solution.
    """
    return RetrievalPredictions(*_read_predictions(path, "images", solution, tuple))


def read_recognition_predictions(path: str | os.PathLike, solution: Solution) -> RecognitionPredictions:
    """Reads `id,landmarks`, with a landmark and its score per row; otherwise as `read_retrieval_predictions`.

    Raises:
        DataError: as `read_retrieval_predictions`, or a row has not exactly two parts or its score is no number.
    """

    def recognition(parts: list[str]) -> Recognition:
        if len(parts) != 2:
            raise ValueError(f"expected a landmark and a score, found {len(parts)} parts")
        if math.isnan(score := float(parts[1])):
            raise ValueError("expected a score, found NaN")
        return Recognition(int(parts[0]), score)

    return RecognitionPredictions(*_read_predictions(path, "landmarks", solution, recognition))


def require_known(queries: Iterable[str], solution: Solution) -> None:
    """Raises `DataError` if a query is not in the solution, as public, private or ignored."""
    known = {*solution.public, *solution.private, *solution.ignored}
    if unknown := [query for query in queries if query not in known]:
        raise DataError(
            f"{len(unknown):,} queries are not in the solution, first {unknown[0]!r}; expected queries of the data set that it "
            "belongs to. Embed that split, or search without a solution."
        )


def _right(hits: Sequence[str], relevant: Collection[str], k: int) -> np.ndarray:
    """Whether each of the ranks 1 … K is the first occurrence of a relevant image, bool [K]."""
    right = np.zeros(k, dtype=bool)
    wanted = set(relevant)
    for rank, hit in enumerate(hits[:k]):
        right[rank] = hit in wanted
        wanted.discard(hit)
    return right


def _check(predictions: Mapping[str, object], solution: Mapping[str, Collection], k: int) -> None:
    if k < 1:
        raise DataError(f"expected at least 1 rank to score, found {k}")
    _require_known(predictions, solution)
    if not solution:
        raise DataError("the solution holds no query, so there is nothing to score. Check the solution file.")
    empty = next((query for query, relevant in solution.items() if not relevant), None)
    if empty is not None:
        raise DataError(f"query {empty!r} has no relevant image in the solution; mark it Ignored or leave it out.")


def _require_known(predictions: Mapping[str, object], solution: Mapping[str, object]) -> None:
    unknown = next((query for query in predictions if query not in solution), None)
    if unknown is not None:
        raise DataError(f"query {unknown!r} was predicted but is not in the solution; predict for its queries only.")


def _read_solution(path: str | os.PathLike, column: str, parse: Callable[[str], T]) -> tuple[dict, dict, list[str]]:
    parts: dict[str, dict[str, T]] = {"Public": {}, "Private": {}}
    ignored: dict[str, None] = {}
    for line, (query, cell, usage) in read_rows(path, ("id", column, "Usage"), exact=True, advice=NO_SOLUTION):
        if query in ignored or any(query in part for part in parts.values()):
            raise DataError(f"{path}:{line}: query {query!r} is repeated; expected each query once.")
        if usage == "Ignored":
            ignored[query] = None
        elif usage not in parts:
            raise DataError(f"{path}:{line}: expected the Usage Public, Private or Ignored, found {usage!r}.")
        else:
            try:
                parts[usage][query] = parse(cell)
            except ValueError as error:
                raise DataError(f"{path}:{line}: query {query!r}: {error}.") from error
    return parts["Public"], parts["Private"], list(ignored)


def _read_predictions(
    path: str | os.PathLike, column: str, solution: Solution, parse: Callable[[list[str]], T]
) -> tuple[dict[str, T], dict[str, T]]:
    public: dict[str, T] = {}
    private: dict[str, T] = {}
    ignored = set(solution.ignored)
    for line, (query, cell) in read_rows(path, ("id", column), exact=True):
        if query in public or query in private:
            raise DataError(f"{path}:{line}: query {query!r} is repeated; expected each query once.")
        if query in ignored or not cell:
            continue
        if query not in solution.public and query not in solution.private:
            raise DataError(f"{path}:{line}: query {query!r} is not in the solution; expected one of its queries.")
        try:
            prediction = parse(cell.removesuffix(" ").split(" "))
        except ValueError as error:
            raise DataError(f"{path}:{line}: query {query!r}: {error}.") from error
        (public if query in solution.public else private)[query] = prediction
    return public, private
