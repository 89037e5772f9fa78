"""An ensemble's ranking, its score, the score of each member, and whether the ensemble is better than they are."""

from collections.abc import Mapping, Sequence

import numpy as np

from retrieval.comparison import bootstrap_interval, compare
from retrieval.metrics import average_precisions
from retrieval.ranking import Ranking
from retrieval.search import search
from retrieval.store import Rows, chosen, columns
from zoo.errors import DataError

MEAN = "the members' mean"


def evaluate(
    index: Rows, queries: Rows, truth: Mapping[str, Sequence[str]], members: Sequence[str]
) -> tuple[Ranking, dict]:
    """Searches with an ensemble's descriptors and with each member's part of them, for the queries that are scored.

    A member's part is its own unit-norm descriptor times a constant, so it ranks as the member does.

    Args:
        index, queries: descriptors [n, D]; D is the sum of the members' sizes, which are equal.
        truth: query id → ids of its relevant index images; other queries are not searched.
        members: their names, in the order of concatenation.

    Returns:
        The ensemble's ranking, and {"members": {name: mAP@100}, "ensemble": mAP@100, "intervals": {"members": {name:
        [low, high]}, "ensemble": [low, high]}}: 95 % bootstrap intervals over the queries. With members also "comparison", the
        ensemble against the best of them, and "comparison_with_mean", against the mean of their precisions of each query:
        {"against": name} and the figures of a `Comparison`. The best member is chosen by its score on the same queries, which
        favours the member.

    Raises:
        DataError: none of the queries is in the truth, or as `search`.
    """
    known = np.isfinite(queries.squared_norms)  # a query that could not be read counts as one without hits
    places = np.array([row for row, query in enumerate(queries.ids) if query in truth and known[row]], np.int64)
    if not len(places):
        raise DataError(
            "none of the queries is in the solution, so there is nothing to score. Check the solution file."
        )
    scored = chosen(queries, places)
    ranking = search(index, scored)
    ensemble = average_precisions(ranking, truth)
    size = index.rows.shape[1] // max(1, len(members))
    parts = {name: (number * size, (number + 1) * size) for number, name in enumerate(members)}
    own = {
        name: average_precisions(search(columns(index, *part), columns(scored, *part)), truth)
        for name, part in parts.items()
    }
    scores = {
        "members": {name: float(precisions.mean()) for name, precisions in own.items()},
        "ensemble": float(ensemble.mean()),
        "intervals": {
            "members": {name: list(bootstrap_interval(precisions)) for name, precisions in own.items()},
            "ensemble": list(bootstrap_interval(ensemble)),
        },
    }
    if own:
        best = max(own, key=lambda name: scores["members"][name])
        mean = np.mean(list(own.values()), axis=0)
        scores["comparison"] = {"against": best} | compare(ensemble, own[best]).as_json()
        scores["comparison_with_mean"] = {"against": MEAN} | compare(ensemble, mean).as_json()
    return ranking, scores
