"""Members' parts of an ensemble's descriptors rank as the members do on their own."""

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.evaluate import evaluate
from retrieval.metrics import mean_average_precision
from retrieval.search import search


def _unit(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    vectors = random.normal(size=(count, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_members_and_ensemble():
    random = np.random.default_rng(0)
    index_ids, query_ids = tuple(f"i{n}" for n in range(40)), tuple(f"q{n}" for n in range(6))
    parts = {split: [_unit(random, n, 8) for _ in range(2)] for split, n in (("index", 40), ("queries", 6))}
    weights = np.array([1.0, 0.5]) / np.hypot(1.0, 0.5)
    together = {
        s: np.hstack([p * w for p, w in zip(both, weights, strict=True)]).astype(np.float32)
        for s, both in parts.items()
    }
    index, queries = Embeddings(index_ids, together["index"], {}), Embeddings(query_ids, together["queries"], {})
    truth = {query: tuple(index_ids[5 * n : 5 * n + 5]) for n, query in enumerate(query_ids[:5])}  # q5 is ignored

    ranking, scores = evaluate(index, queries, truth, ["a", "b"])

    for number, name in enumerate(["a", "b"]):
        own = [
            Embeddings(ids, parts[s][number].astype(np.float32), {})
            for s, ids in (("index", index_ids), ("queries", query_ids))
        ]
        alone = search(*own)
        hits = dict(zip(alone.query_ids, alone.hits, strict=True))
        assert scores["members"][name] == pytest.approx(
            mean_average_precision({q: hits[q] for q in truth}, truth), abs=1e-12
        )
    hits = dict(zip(ranking.query_ids, ranking.hits, strict=True))
    assert scores["ensemble"] == mean_average_precision({q: hits[q] for q in truth}, truth)
    for own, (low, high) in [(scores["ensemble"], scores["intervals"]["ensemble"])] + [
        (scores["members"][name], scores["intervals"]["members"][name]) for name in ("a", "b")
    ]:
        assert 0 <= low <= own <= high <= 1
