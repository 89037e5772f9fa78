"""The re-ranking benchmark on tiny sets: its figures are those of the test queries, with parameters from the training set."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import rerank
from retrieval import tune as tuning
from retrieval.embeddings import Embeddings
from retrieval.exact import search
from retrieval.expansion import Expansion
from retrieval.metrics import mean_average_precision
from retrieval.reciprocal import KReciprocal
from retrieval.rerank import Reranking
from retrieval.whitening import fit

LANDMARKS, EACH = 8, 6


@pytest.fixture
def data(tmp_path: Path, monkeypatch) -> Path:
    """Embeddings and tables of landmarks that are all in the three splits; the last query is not scored."""
    expansions, reciprocals = (Expansion(2), Expansion(4)), (KReciprocal(5, 2), KReciprocal(8, 3))
    monkeypatch.setattr(tuning, "EXPANSIONS", expansions)
    monkeypatch.setattr(tuning, "RECIPROCALS", reciprocals)
    expanded = [(Reranking(None, one), Reranking(one), Reranking(one, one)) for one in expansions]
    monkeypatch.setattr(tuning, "EXPANDED", sum(expanded, ()))
    monkeypatch.setattr(tuning, "RECIPROCAL", tuple(Reranking(k_reciprocal=one) for one in reciprocals))
    monkeypatch.setattr(tuning, "DIMENSIONS", (8,))
    random = np.random.default_rng(0)
    centres = random.normal(size=(LANDMARKS, 24))
    ids: dict[str, list[str]] = {}
    for number, (split, each) in enumerate((("train", EACH), ("index", EACH), ("test", 2))):
        rows = np.repeat(centres, each, axis=0) + random.normal(size=(LANDMARKS * each, 24))
        ids[split] = [f"{number}{row:015x}" for row in range(len(rows))]
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        Embeddings(tuple(ids[split]), rows, {"model": "m"}).save(tmp_path / f"{split}.safetensors")
    table = "".join(f"{name},,{row // EACH}\n" for row, name in enumerate(ids["train"]))
    (tmp_path / "train.csv").write_text("id,url,landmark_id\n" + table, encoding="utf-8")
    truth = [" ".join(ids["index"][row // 2 * EACH :][:EACH]) for row in range(len(ids["test"]))]
    lines = [f"{query},{images},Public" for query, images in zip(ids["test"], truth, strict=True)]
    lines[-1] = f"{ids['test'][-1]},None,Ignored"
    (tmp_path / "retrieval_solution_v2.1.csv").write_text(
        "\n".join(["id,images,Usage", *lines]) + "\n", encoding="utf-8"
    )
    return tmp_path


def test_a_set(data):
    found = rerank.measure_set(data, data)
    assert found["images"] == {"train": 48, "index": 48, "queries": 15}
    index, queries = (Embeddings.load(data / f"{split}.safetensors") for split in ("index", "test"))
    truth = {query: index.ids[row // 2 * EACH :][:EACH] for row, query in enumerate(queries.ids[:-1])}
    assert found["test"]["map100"] == pytest.approx(mean_average_precision(search(index, queries), truth))
    kinds = [row["kind"] for row in found["rows"]]
    chosen = [rerank.CHOSEN] if any(found["chosen"]["reranking"].values()) else []
    assert kinds == [*chosen, *rerank.KINDS]
    assert not chosen or found["rows"][0]["parameters"] == found["chosen"]["reranking"]
    for row in found["rows"]:
        assert row["difference"] == pytest.approx(row["map100"] - found["test"]["map100"])
    text = rerank.table({"tiny": found})
    assert len(text.splitlines()) == 2 + 1 + len(kinds) and "**tiny**: 15 queries" in text


def test_whitenings(data):
    found = rerank.measure_set(data, data)["whitening"]
    assert [(row["dimensions"], row["shrinkage"]) for row in found] == [(8, 0.0), (8, 0.3), (8, 1.0), (8, 3.0)]
    assert found[0]["train_difference"] is None
    index, queries, train = (Embeddings.load(data / f"{split}.safetensors") for split in ("index", "test", "train"))
    truth = {query: index.ids[row // 2 * EACH :][:EACH] for row, query in enumerate(queries.ids[:-1])}
    whitening = fit(train, 8, 1.0)
    whitened = [Embeddings(side.ids, whitening.apply(side.rows), {}) for side in (index, queries)]
    gain = mean_average_precision(search(whitened[0], whitened[1]), truth) - mean_average_precision(
        search(index, queries), truth
    )
    assert found[2]["difference"] == pytest.approx(gain)
    line = rerank.whitening_table({"tiny": {"whitening": found[1:]}}).splitlines()[-1]
    assert line.startswith("| tiny | 8 | – | ") and line.count("|") == 7


def test_the_best_of_a_kind_uses_no_other_part():
    def one(score: float, **parts: object) -> dict:
        none = dict.fromkeys(("augment_database", "expand_queries", "k_reciprocal"))
        return {"parameters": none | parts, "map100": score}

    tried = [one(0.1, expand_queries={"n": 1}), one(0.3, expand_queries={"n": 2}), one(0.2, expand_queries={"n": 3})]
    tried.append(one(0.9, expand_queries={"n": 4}, k_reciprocal={"k1": 3}))
    assert rerank._best(tried, {"expand_queries"}) is tried[1]


def test_the_cost(monkeypatch):
    monkeypatch.setattr(rerank, "FITTED", 300)
    monkeypatch.setattr(rerank, "WHITENED", 16)
    monkeypatch.setattr(rerank, "LENGTH", 32)
    monkeypatch.setattr(rerank, "INDEX", 600)
    cost = rerank.measure_cost()
    assert all(value >= 0 for value in cost.values())
    assert rerank.cost_table(cost).count("\n") == 5
