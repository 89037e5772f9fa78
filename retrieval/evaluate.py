"""An ensemble's ranking, its score, and the score of each member."""

from collections.abc import Mapping, Sequence

import numpy as np

from retrieval.embeddings import Embeddings
from retrieval.metrics import mean_average_precision
from retrieval.search import Ranking, search


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
        The ensemble's ranking, and {"members": {name: mAP@100}, "ensemble": mAP@100}.
    """
    ranking = search(index, queries)
    scores = {"members": {}, "ensemble": _score(ranking, truth)}
    parts = [np.split(e.descriptors, len(members), axis=1) for e in (index, queries)] if members else ((), ())
    for name, index_part, query_part in zip(members, *parts, strict=True):
        own = search(
            Embeddings(index.ids, index_part, index.source), Embeddings(queries.ids, query_part, queries.source)
        )
        scores["members"][name] = _score(own, truth)
    return ranking, scores


def _score(ranking: Ranking, truth: Mapping[str, Sequence[str]]) -> float:
    predictions = dict(zip(ranking.query_ids, ranking.hits, strict=True))
    # Queries that the solution ignores are embedded and ranked like the others, and not scored.
    return mean_average_precision({query: hits for query, hits in predictions.items() if query in truth}, truth)
