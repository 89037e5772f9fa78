"""Metrics from row numbers, from ids and by the plain definition are the same, on random rankings and on every edge case."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import delf_definition as delf
from retrieval import right_hits
from retrieval.metrics import find_right_hits, mean_average_precision, mean_median_position, mean_precisions, score
from retrieval.ranking import Ranking, write_predictions
from retrieval.recognition import global_average_precision
from retrieval.solution import Recognition, RetrievalSolution, read_retrieval_predictions
from zoo.errors import DataError

_IMAGES = 8
"""Few, so that hits and relevant ids are often repeated."""


@st.composite
def cases(draw: st.DrawFn) -> tuple[Ranking, dict[str, list[str]], int]:
    """A ranking with repeated rows and rows that are no hit, a truth with repeated ids and ids that the index lacks, and K.

    Some queries of the ranking are not in the truth, some of the truth were not searched, and their orders differ.
    """
    queries = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1))
    width = draw(st.integers(0, 6))
    rows = draw(
        st.lists(
            st.lists(st.integers(-1, _IMAGES - 1), min_size=width, max_size=width),
            min_size=len(queries),
            max_size=len(queries),
        )
    )
    ids = st.integers(0, _IMAGES + 2).map("i{}".format)
    truth = draw(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(ids, min_size=1, max_size=7), min_size=1))
    array = np.array(rows, np.int32).reshape(len(queries), width)
    index_ids = [f"i{number}" for number in range(_IMAGES)]
    return (
        Ranking(queries, index_ids, array, np.zeros(array.shape, np.float32)),
        truth,
        draw(st.sampled_from((1, 2, 3, 100))),
    )


def lists(ranking: Ranking, truth: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The scored queries' hits as ids; "no hit" is an image that nobody looks for."""
    return {
        query: [str(ranking.index_ids[row]) if row >= 0 else f"nothing {place}" for place, row in enumerate(rows)]
        for query, rows in zip(ranking.query_ids, ranking.rows.tolist(), strict=True)
        if query in truth
    }


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from((1, 2, 1024)), st.booleans())
def test_three_ways_to_the_same_figures(case, block, blind):
    """`blind`: as if all hashes collided."""
    ranking, truth, k = case
    ids = lists(ranking, truth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(right_hits, "_QUERIES", block)
        if blind:
            patch.setattr(right_hits, "_possible", lambda hits, relevant, owners: np.arange(hits.size))
        for ranked in (ranking, ids):
            assert mean_average_precision(ranked, truth, k) == pytest.approx(
                delf.mean_average_precision(ids, truth, k), abs=1e-12
            )
            assert mean_precisions(ranked, truth, k) == pytest.approx(delf.mean_precisions(ids, truth, k), abs=1e-12)
            assert mean_median_position(ranked, truth, k) == pytest.approx(delf.mean_median_position(ids, truth, k))


def _large(queries: int = 300, images: int = 70_000, width: int = 40) -> tuple[Ranking, dict[str, list[str]]]:
    """Enough images that hashed pairs collide, and rows that fill all of 17 bits."""
    random = np.random.default_rng(0)
    index_ids = [f"{number:x}" for number in range(images)]
    rows = random.integers(images, size=(queries, width)).astype(np.int32)
    truth = {}
    for query in range(queries):
        own = random.integers(images, size=random.integers(1, 200))
        found = random.random(width) < 0.3
        rows[query, found] = random.choice(own, size=found.sum())
        truth[f"q{query}"] = [index_ids[row] for row in own]
    return Ranking(list(truth), index_ids, rows, np.zeros(rows.shape, np.float32)), truth


def test_many_images(monkeypatch):
    ranking, truth = _large()
    expected = delf.mean_average_precision(lists(ranking, truth), truth, 100)
    assert 0.01 < expected < 0.9
    assert mean_average_precision(ranking, truth) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(right_hits, "_QUERIES", 7)  # in threads
    assert mean_average_precision(ranking, truth) == pytest.approx(expected, abs=1e-12)


def test_the_truth_as_rows_serves_many_rankings():
    ranking, truth = _large(queries=20)
    rows = right_hits.TruthRows(truth, ranking.query_ids, ranking.index_ids)
    for some in (ranking.rows, ranking.rows[:, ::-1], ranking.rows[:, :3]):
        own = Ranking(ranking.query_ids, ranking.index_ids, some, some.astype(np.float32))
        expected = find_right_hits(own, truth, 10)
        found = rows.right_hits(some, 10)
        assert np.array_equal(found.queries, expected.queries) and np.array_equal(found.ranks, expected.ranks)


def test_a_ranking_and_its_predictions_file_have_the_same_score(tmp_path):
    ranking, truth = _large(queries=60)
    names = list(truth)
    solution = RetrievalSolution(
        {name: tuple(truth[name]) for name in names[:20]},
        {name: tuple(truth[name]) for name in names[20:50]},
        names[50:],
    )
    write_predictions(tmp_path / "predictions.csv", ranking)
    figures = score(ranking, solution)
    assert figures == score(read_retrieval_predictions(tmp_path / "predictions.csv", solution), solution)
    for part, queries in (("public", solution.public), ("private", solution.private), ("all", solution.everything)):
        expected = delf.mean_average_precision(lists(ranking, queries), queries, 100)
        assert figures[f"map100_{part}"] == pytest.approx(expected, abs=1e-12)
    assert score(ranking, RetrievalSolution(solution.public, {}, names[20:]))["map100_private"] is None


def test_a_ranking_has_the_errors_of_a_mapping():
    ranking = Ranking(["a"], ["x"], np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32))
    for truth, message in (({}, "no query"), ({"a": []}, "'a' has no relevant image")):
        with pytest.raises(DataError, match=message):
            mean_average_precision(ranking, truth)
    with pytest.raises(DataError, match="at least 1 rank"):
        mean_average_precision(ranking, {"a": ["x"]}, 0)
    assert mean_average_precision(ranking, {"b": ["x"]}) == 0  # a query that was not searched


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.integers(0, 3)), min_size=1).filter(
        lambda t: any(t.values())
    ),
    st.data(),
)
def test_gap(truth, data):
    guess = st.builds(
        Recognition, st.integers(0, 3), st.sampled_from((-1.0, 0.0, 0.5, float("inf"), -float("inf"), 1e-300))
    )
    predictions = data.draw(st.dictionaries(st.sampled_from(sorted(truth)), guess))
    expected = delf.global_average_precision(predictions, truth)
    assert global_average_precision(predictions, truth) == pytest.approx(expected, abs=1e-12)
