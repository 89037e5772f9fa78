"""An ensemble's ranking, its score, and the score of each member."""

from collections.abc import Mapping, Sequence

import numpy as np

from retrieval.comparison import bootstrap_interval
from retrieval.embeddings import Embeddings
from retrieval.metrics import average_precision, mean_average_precision
from retrieval.ranking import Ranking
from retrieval.search import search


def evaluate(
    index: Embeddings, queries: Embeddings, truth: Mapping[str, Sequence[str]], members: Sequence[str]
) -> tuple[Ranking, dict]:
    """Searches with an ensemble's descriptors and with each member's part of them.

    A member's part is its own unit-norm descriptor times a constant, so it ranks as the member does.

    Args:
        index, queries: descriptors [n, D]; D is the sum of the members' sizes, which are equal.
        truth: query id → ids of its relevant index images.
        members: their names, in the order of concatenation.

    Returns:
        The ensemble's ranking, and {"members": {name: mAP@100}, "ensemble": mAP@100, "intervals": {"members": {name:
        [low, high]}, "ensemble": [low, high]}}: 95 % bootstrap intervals over the queries.
    """
    ranking = search(index, queries)
    scores = {"members": {}, "ensemble": _score(ranking, truth)}
    intervals = {"members": {}, "ensemble": _interval(ranking, truth)}
    parts = [np.split(e.descriptors, len(members), axis=1) for e in (index, queries)] if members else ((), ())
    for name, index_part, query_part in zip(members, *parts, strict=True):
        own = search(
            Embeddings(index.ids, index_part, index.source), Embeddings(queries.ids, query_part, queries.source)
        )
        scores["members"][name] = _score(own, truth)
        intervals["members"][name] = _interval(own, truth)
    return ranking, scores | {"intervals": intervals}


def _score(ranking: Ranking, truth: Mapping[str, Sequence[str]]) -> float:
    return mean_average_precision(_scored(ranking, truth), truth)


def _interval(ranking: Ranking, truth: Mapping[str, Sequence[str]]) -> list[float]:
    """95 % bootstrap interval of mAP@100; a query of the solution that was not searched counts as 0, as in the score."""
    hits = _scored(ranking, truth)
    return list(bootstrap_interval([average_precision(hits.get(query, ()), truth[query]) for query in truth]))


def _scored(ranking: Ranking, truth: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Hits of the queries that count; the solution's ignored ones are embedded and ranked like the others."""
    hits = dict(zip(ranking.query_ids, ranking.hits, strict=True))
    return {query: found for query, found in hits.items() if query in truth}
