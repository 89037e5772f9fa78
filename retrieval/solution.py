"""The contest's solution and prediction files, of its retrieval and of its recognition track.

The formats are those of DELF's reader (tensorflow/models, research/delf, datasets/google_landmarks_dataset/dataset_file_io.py). If
it would raise a bare `KeyError`, a `DataError` explains the problem.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from retrieval.data.csv_tables import read_rows
from retrieval.data.gldv2 import Gldv2
from zoo.command import log
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


def require_relevant_in_index(data: Gldv2, solution: RetrievalSolution, index: Collection[str]) -> None:
    """Raises `DataError` if the solution names images that were not searched, unless they are known to be unreadable.

    Args:
        data: whose `unreadable.csv` is read; what stands there can only lower a score.
        solution: the ground truth.
        index: ids that were searched.
    """
    relevant = {image_id for hits in solution.everything.values() for image_id in hits}
    missing = relevant - set(index)
    if unknown := sorted(missing - data.unreadable("index")):
        raise DataError(
            f"{len(unknown):,} of {len(relevant):,} relevant images of {data.solution_path} are not in the index, first "
            f"{unknown[0]!r}; no score would be right. Embed the whole index split of the data set that the solution belongs to."
        )
    if missing:
        log(f"{len(missing):,} relevant images are unreadable, so they were not searched and count as not found")


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
