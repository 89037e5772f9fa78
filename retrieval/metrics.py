"""The contest's metrics of a retrieval, from a predictions file or from a search; GAP is in `retrieval.recognition`.

The definitions are DELF's (tensorflow/models, research/delf, datasets/google_landmarks_dataset/metrics.py), with which the organisers
score. If DELF would divide by zero or raise a bare `KeyError`, a `DataError` explains the problem.

A ranking is a mapping, query id → ids of its hits, nearest first, or a `Ranking`. Queries of a `Ranking` that the solution does not
name are not scored; in a mapping they are an error.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from retrieval import right_hits
from retrieval.ranking import Ranking
from retrieval.right_hits import RightHits
from retrieval.solution import RetrievalPredictions, RetrievalSolution
from zoo.errors import DataError

CONTEST_K = 100
"""Hits per query that the contest scores."""

Ranked = Ranking | Mapping[str, Sequence[str]]
Truth = Mapping[str, Collection[str]]
"""Query id → ids of its relevant index images."""


def score(predictions: RetrievalPredictions | Ranking, solution: RetrievalSolution) -> dict[str, float | None]:
    """The contest's metrics by name; those of a part without queries are None.

    Raises:
        DataError: the solution scores no query at all, or as `find_right_hits`.
    """
    ranked = predictions if isinstance(predictions, Ranking) else predictions.everything
    right = find_right_hits(ranked, solution.everything, CONTEST_K)
    precisions = right.average_precisions()
    is_public = np.fromiter((query in solution.public for query in solution.everything), bool, len(precisions))
    parts = {"public": precisions[is_public], "private": precisions[~is_public], "all": precisions}
    at_rank = right.mean_precisions()
    return {
        **{f"map{CONTEST_K}_{name}": float(own.mean()) if len(own) else None for name, own in parts.items()},
        "precision_1": float(at_rank[0]),
        "precision_10": float(at_rank[9]),
        "median_position": float(np.median(right.positions())),
    }


def find_right_hits(ranked: Ranked, truth: Truth, k: int = CONTEST_K) -> RightHits:
    """The right hits of a ranking among its first K, from which all metrics follow; queries have the order of the truth.

    Raises:
        DataError: K is below 1, the truth is empty or has a query without relevant images, or a query of a mapping is not in it.
    """
    if k < 1:
        raise DataError(f"expected at least 1 rank to score, found {k}")
    if not isinstance(ranked, Ranking):
        unknown = next((query for query in ranked if query not in truth), None)
        if unknown is not None:
            raise DataError(
                f"query {unknown!r} was predicted but is not in the solution; predict for its queries only."
            )
    if not truth:
        raise DataError("the solution holds no query, so there is nothing to score. Check the solution file.")
    empty = next((query for query, relevant in truth.items() if not relevant), None)
    if empty is not None:
        raise DataError(f"query {empty!r} has no relevant image in the solution; mark it Ignored or leave it out.")
    if isinstance(ranked, Ranking):
        return right_hits.of_ranking(ranked, truth, k)
    return right_hits.of_ids(ranked, truth, k)


def mean_average_precision(ranked: Ranked, truth: Truth, k: int = CONTEST_K) -> float:
    """mAP@K: the mean of `average_precision` over all queries of the truth; one without a prediction counts as 0.

    Raises:
        DataError: as `find_right_hits`.
    """
    return float(average_precisions(ranked, truth, k).mean())


def average_precisions(ranked: Ranked, truth: Truth, k: int = CONTEST_K) -> np.ndarray:
    """AP@K of each query of the truth, float64 [queries], in its order; one without a prediction has 0.

    Raises:
        DataError: as `find_right_hits`.
    """
    return find_right_hits(ranked, truth, k).average_precisions()


def average_precision(hits: Sequence[str], relevant: Collection[str], k: int = CONTEST_K) -> float:
    """AP@K of one query: the sum over right hits of (right hits so far / rank), divided by min(len(relevant), K).

    A repeated hit counts once, at its first rank; its repetition still takes up a rank.
    """
    return float(right_hits.of_ids({"": hits}, {"": relevant}, k).average_precisions()[0])


def mean_precisions(ranked: Ranked, truth: Truth, k: int = CONTEST_K) -> np.ndarray:
    """Mean precision at each rank, float64 [K]; element 0 is P@1.

    Beyond the end of a short list the precision continues as (right hits so far / rank).

    Raises:
        DataError: as `find_right_hits`.
    """
    return find_right_hits(ranked, truth, k).mean_precisions()


def mean_median_position(ranked: Ranked, truth: Truth, k: int = CONTEST_K) -> tuple[float, float]:
    """Mean and median over all queries of the first right hit's rank (from 1), which is K + 1 if there is none.

    Raises:
        DataError: as `find_right_hits`.
    """
    positions = find_right_hits(ranked, truth, k).positions()
    return float(positions.mean()), float(np.median(positions))
