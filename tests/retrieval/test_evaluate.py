"""Members' parts of an ensemble's descriptors rank as the members do on their own."""

import json

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.evaluate import evaluate
from retrieval.metrics import mean_average_precision
from retrieval.search import search
from retrieval.store import Selection
from zoo.errors import DataError


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


def test_the_ensemble_is_compared_with_its_best_member_and_with_the_mean():
    """Member a finds everything, b nothing in the right order; the ensemble follows a."""
    index_ids, query_ids = tuple(f"i{n}" for n in range(20)), tuple(f"q{n}" for n in range(20))
    truth = {f"q{n}": (f"i{n}",) for n in range(20)}
    right, wrong = np.eye(20), np.roll(np.eye(20), 7, axis=0)
    index = Embeddings(index_ids, np.hstack([right, 0.5 * right]).astype(np.float32), {})
    queries = Embeddings(query_ids, np.hstack([right, 0.5 * wrong]).astype(np.float32), {})
    _, scores = evaluate(index, queries, truth, ["a", "b"])
    assert scores["members"]["a"] == scores["ensemble"] == 1 > scores["members"]["b"]
    best, mean = scores["comparison"], scores["comparison_with_mean"]
    assert (best["against"], best["difference"], best["p"], best["queries"]) == ("a", 0, 1, 20)
    assert mean["difference"] == pytest.approx((1 - scores["members"]["b"]) / 2)
    assert mean["p"] < 0.01 and mean["interval"][0] > 0
    assert json.loads(json.dumps(scores)) == scores


def test_only_scored_queries_are_searched():
    index = Embeddings(("i0", "i1"), np.eye(2, dtype=np.float32), {})
    queries = Embeddings(("q0", "q1"), np.eye(2, dtype=np.float32), {})
    ranking, scores = evaluate(index, queries, {"q1": ("i1",), "q2": ("i0",)}, [])
    assert list(ranking.query_ids) == ["q1"] and scores["ensemble"] == 0.5
    assert "comparison" not in scores
    norms = np.array([1, np.inf])
    unread = Selection(queries.ids, np.array([[1, 0], [0, 0]], np.float32), norms, {})
    ranking, scores = evaluate(index, unread, {"q0": ("i0",), "q1": ("i1",)}, [])
    assert list(ranking.query_ids) == ["q0"] and scores["ensemble"] == 0.5
    with pytest.raises(DataError, match="none of the queries"):
        evaluate(index, queries, {"q2": ("i0",)}, [])
