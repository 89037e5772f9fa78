"""The file of a re-ranking, and what refuses one."""

import json

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.exact import search
from retrieval.expansion import Expansion
from retrieval.neighbours import other_neighbours
from retrieval.reciprocal import KReciprocal
from retrieval.rerank import FORMAT, NONE, Reranking, apply, read_reranking, write_reranking
from retrieval.search import search_files
from zoo.errors import DataError, SpecError


def embedded(count: int, seed: int, model: str = "m") -> Embeddings:
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return Embeddings(tuple(f"{seed}-{row}" for row in range(count)), rows, {"model": model})


@pytest.mark.parametrize(
    "parameters",
    [
        NONE,
        Reranking(Expansion(3, 0.5), Expansion(1), KReciprocal(20, 6, 0.1), {"model": "m"}, {"tried": [1, None]}),
        Reranking(k_reciprocal=KReciprocal(5, 5)),
    ],
)
def test_a_file_is_read_as_it_was_written(parameters, tmp_path):
    write_reranking(tmp_path / "rerank.json", parameters)
    assert read_reranking(tmp_path / "rerank.json") == parameters


def test_a_file_by_hand_needs_only_what_is_done(tmp_path):
    text = {"format": FORMAT, "expand_queries": {"neighbours": 3}, "k_reciprocal": None}
    (tmp_path / "rerank.json").write_text(json.dumps(text), encoding="utf-8")
    assert read_reranking(tmp_path / "rerank.json") == Reranking(expand_queries=Expansion(3, 3.0))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "another"}, "expected the format"),
        ({"expand_query": {"neighbours": 3}}, "unknown key 'expand_query' .did you mean 'expand_queries'"),
        ({"expand_queries": {"neighbors": 3}}, "unknown key 'neighbors'"),
        ({"expand_queries": {"neighbours": 0}}, "expand_queries.neighbours: expected int >= 1"),
        ({"expand_queries": {"neighbours": 2.5}}, "expand_queries.neighbours: expected int"),
        ({"augment_database": [3, 3]}, "augment_database: expected a mapping"),
        ({"augment_database": {"neighbours": 3, "alpha": -1}}, "augment_database.alpha"),
        ({"k_reciprocal": {"k1": 3, "k2": 6}}, "k2 of at most k1, which is 3, found 6"),
        ({"k_reciprocal": {"k1": 3}}, "'k2' is missing"),
        ({"k_reciprocal": {"k1": 3, "k2": 3, "distance_weight": 1.5}}, "distance_weight"),
        ({"source": []}, "source"),
    ],
)
def test_a_mistake_in_a_file_is_named(change, expected, tmp_path):
    (tmp_path / "rerank.json").write_text(json.dumps({"format": FORMAT} | change), encoding="utf-8")
    with pytest.raises(DataError, match=f"rerank.json.*{expected}.*landmark-zoo tune"):
        read_reranking(tmp_path / "rerank.json")


def test_parameters_of_another_model_are_refused():
    index, queries = embedded(20, 0), embedded(3, 1)
    ranking = search(index, queries, 5)
    assert apply(index, queries, ranking, Reranking(source={"model": "m"})) is ranking
    with pytest.raises(DataError, match="the parameters of the re-ranking and the index are of different models"):
        apply(index, queries, ranking, Reranking(source={"model": "another"}))


def test_all_parts_together_leave_as_many_hits():
    index, queries = embedded(20, 0), embedded(3, 1)
    ranking = search(index, queries, 7)
    found = apply(index, queries, ranking, Reranking(Expansion(2), Expansion(2), KReciprocal(4, 2)))
    assert found.rows.shape == (3, 7) and found.query_ids == ranking.query_ids
    assert all(len(set(rows)) == 7 for rows in found.rows.tolist())
    assert (np.diff(found.distances) >= 0).all()


def test_neighbours_that_are_known_are_those_of_the_index_before_it_was_augmented():
    index, queries = embedded(20, 0), embedded(3, 1)
    ranking, parameters = search(index, queries, 7), Reranking(Expansion(2), Expansion(2), KReciprocal(4, 2))
    known = other_neighbours(index, 10)
    found, wanted = (apply(index, queries, ranking, parameters, known=given) for given in (known, None))
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_array_equal(found.distances, wanted.distances)


@pytest.fixture
def files(tmp_path):
    """Embeddings of an index and of queries, and a re-ranking."""
    for name, count, seed in (("index", 30, 0), ("queries", 5, 1)):
        embedded(count, seed).save(tmp_path / name)
    write_reranking(tmp_path / "rerank.json", Reranking(Expansion(2), Expansion(3), KReciprocal(4, 2)))
    return tmp_path / "index", tmp_path / "queries", tmp_path / "out.csv"


def test_a_search_is_re_ranked_and_leaves_nothing_beside_its_output(files):
    index, queries, out = files
    search_files(*files, rerank=out.with_name("rerank.json"))
    sides = Embeddings.load(index), Embeddings.load(queries)
    plain = search(*sides, 100)
    wanted = apply(*sides, plain, read_reranking(out.with_name("rerank.json")))
    lines = out.read_text(encoding="utf-8").splitlines()[1:]
    assert lines == [f"{query},{' '.join(hits)}" for query, hits in zip(sides[1].ids, wanted.hits, strict=True)]
    assert list(wanted.hits) != list(plain.hits)
    assert sorted(path.name for path in out.parent.iterdir()) == ["index", "out.csv", "queries", "rerank.json"]


@pytest.mark.parametrize("options", [{"shard": "0/2"}, {"index_factory": "Flat"}])
def test_only_an_exact_search_of_the_whole_index_is_re_ranked(files, options):
    with pytest.raises(SpecError, match="--rerank needs an exact search of the whole index"):
        search_files(*files, rerank=files[2].with_name("rerank.json"), **options)


def test_a_re_ranking_that_is_missing_is_said_before_the_search(files, capsys):
    with pytest.raises(DataError, match=r"missing\.json"):
        search_files(*files, rerank=files[2].with_name("missing.json"))
    assert "searching" not in capsys.readouterr().err


def test_a_reranking_in_words():
    assert str(NONE) == "none"
    both = Reranking(Expansion(3), Expansion(5, 1), KReciprocal(20, 6, 0.3))
    assert str(both) == "augment 3, alpha 3 + expand 5, alpha 1 + k-reciprocal 20, 6, 0.3"
