"""The metric of the contest's recognition track, by DELF's definition (metrics.py, as in `retrieval.metrics`)."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from retrieval.solution import Recognition
from zoo.errors import DataError


def global_average_precision(
    predictions: Mapping[str, Recognition], solution: Mapping[str, Collection[int]], *, ignore_empty: bool = False
) -> float:
    """GAP, also µAP: average precision over all predictions, sorted by confidence.

    Ties are broken by query id, ascending. The divisor is the number of queries that show a landmark.

    Args:
        predictions: query id → `Recognition`, or any (landmark, score) pair.
        solution: query id → its landmarks; empty if the image shows none.
        ignore_empty: leave predictions for images without a landmark out, instead of counting them as wrong.

    Raises:
        DataError: no query shows a landmark, a predicted query is not in the solution, or a score is NaN.
    """
    unknown = next((query for query in predictions if query not in solution), None)
    if unknown is not None:
        raise DataError(f"query {unknown!r} was predicted but is not in the solution; predict for its queries only.")
    positives = sum(bool(truth) for truth in solution.values())
    if not positives:
        raise DataError("the solution holds no query with a landmark; GAP needs at least one. Check the solution file.")
    unsure = next((query for query, (_, score) in predictions.items() if math.isnan(score)), None)
    if unsure is not None:
        raise DataError(f"the score of query {unsure!r} is NaN, which has no place in a ranking; expected a number.")

    queries = [query for query in sorted(predictions) if solution[query] or not ignore_empty]
    scores = np.array([predictions[query][1] for query in queries], np.float64)
    right = np.array([predictions[query][0] in solution[query] for query in queries], bool)
    right = right[np.argsort(-scores, kind="stable")]
    ranks = np.flatnonzero(right) + 1
    return float(np.sum(np.arange(1, len(ranks) + 1) / ranks)) / positives
