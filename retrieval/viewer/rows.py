"""The report's rows of queries."""

from collections.abc import Mapping, Sequence

from retrieval.data.gldv2 import Gldv2
from retrieval.metrics import average_precision
from retrieval.ranking import Ranking
from retrieval.viewer.report import Hit, QueryRow


def query_rows(data: Gldv2, ranking: Ranking, truth: Mapping[str, Sequence[str]]) -> list[QueryRow]:
    """The report's row of each scored query."""
    rows = []
    for query, hits, distances in zip(ranking.query_ids, ranking.hits, ranking.distances, strict=True):
        if query not in truth:
            continue
        relevant = set(truth[query])
        shown = [
            Hit(data.image_path("index", h), h, float(d), h in relevant) for h, d in zip(hits, distances, strict=True)
        ]
        rows.append(QueryRow(data.image_path("test", query), query, average_precision(hits, relevant), shown))
    return rows
