"""What the report shows of a ranking: every number against plain arithmetic on a ranking made by hand."""

import numpy as np
import pytest

from retrieval.data.landmarks import IndexLandmarks
from retrieval.ranking import Ranking
from retrieval.solution import RetrievalSolution
from retrieval.viewer.confusions import Confusion, LandmarkScore, confusions, landmark_scores
from retrieval.viewer.results import HITS, MISSED, results
from retrieval.viewer.similarities import Sides
from tests.retrieval.viewer.small_reports import embeddings, nearest
from zoo.errors import DataError

INDEX = [f"i{number}" for number in range(130)]
NOTHING = IndexLandmarks({}, {})


def ranking(rows: dict[str, list[int]], k: int = 130) -> Ranking:
    table = np.full((len(rows), k), -1, np.int32)
    for place, found in enumerate(rows.values()):
        table[place, : len(found)] = found
    return Ranking(tuple(rows), INDEX, table, np.full(table.shape, np.nan, np.float32))


def test_found_missed_first_and_precision():
    truth = {"a": ("i0", "i3", "i105"), "b": ("i1",), "c": ("i2",)}
    solution = RetrievalSolution({"b": truth["b"]}, {"a": truth["a"], "c": truth["c"]}, ["d", "e"])
    found = results(ranking({"d": [1], "a": list(range(130)), "b": [0, 1]}), solution, NOTHING)
    assert list(found.query_ids) == ["a", "b", "c"]  # the ranking's d is not scored, and its c is missing
    assert found.found.tolist() == [2, 1, 0] and found.relevant.tolist() == [3, 1, 1]
    assert found.first.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.precisions, [(1 + 2 / 4) / 3, 1 / 2, 0])
    assert [[found.image_ids[image] for image in missed] for missed in found.missed] == [["i105"], [], ["i2"]]
    assert found.correct[0, :4].tolist() == [True, False, False, True]
    assert found.hits[1, 2:].tolist() == [-1] * (HITS - 2) and (found.hits[2] == -1).all()
    assert found.public.tolist() == [False, True, False]
    assert (found.ignored, found.searched) == (2, 130)


def test_images_that_matter_most_come_first():
    solution = RetrievalSolution({}, {"a": ("i120", "i121"), "b": ("i122",)}, [])
    found = results(ranking({"a": [5, 6], "b": [7, 5]}), solution, NOTHING)
    assert list(found.image_ids) == ["i5", "i7", "i120", "i122", "i6", "i121"]


def test_an_image_that_the_solution_or_the_ranking_repeats_counts_once():
    truth = ("i1", "i1", "i9", "i9")
    found = results(ranking({"a": [1, 1, 2]}), RetrievalSolution({}, {"a": truth}, []), NOTHING)
    assert (found.relevant[0], found.found[0]) == (2, 1)
    assert [found.image_ids[image] for image in found.missed[0]] == ["i9"]


def test_at_most_so_many_missed_are_shown_but_all_are_counted():
    truth = tuple(INDEX[:50])
    found = results(ranking({"a": [60]}), RetrievalSolution({}, {"a": truth}, []), NOTHING)
    assert len(found.missed[0]) == MISSED and found.relevant[0] - found.found[0] == 50


def test_a_solution_without_scored_queries_is_an_error():
    with pytest.raises(DataError, match="scores no query"):
        results(ranking({"a": [0]}), RetrievalSolution({}, {}, ["a"]), NOTHING)


def test_distances_and_cosines_are_those_of_the_stored_rows():
    rng = np.random.default_rng(0)
    index, asked = (embeddings(ids, list(rng.normal(size=(len(ids), 8)))) for ids in (INDEX[:20], ["a", "b"]))
    order = nearest(index, asked, 20)
    scrambled = Ranking(order.query_ids, order.index_ids, order.rows[:, ::-1].copy(), np.zeros((2, 20), np.float32))
    solution = RetrievalSolution({}, {"a": ("i0",), "b": ("i1",)}, [])
    found = results(scrambled, solution, NOTHING, Sides(index, asked))
    rows = [[INDEX.index(found.image_ids[image]) for image in hits] for hits in found.hits]
    products = np.einsum("qd,qkd->qk", asked.rows, index.rows[rows])
    np.testing.assert_allclose(found.cosines, products, atol=1e-6)
    np.testing.assert_allclose(found.distances, np.sqrt(2 - 2 * products), atol=1e-6)


def test_without_descriptors_the_rankings_own_distances_are_shown():
    order = Ranking(("a",), INDEX, np.array([[4, 2]], np.int32), np.array([[0.5, 0.75]], np.float32))
    found = results(order, RetrievalSolution({}, {"a": ("i2",)}, []), NOTHING)
    assert found.distances[0, :2].tolist() == [0.5, 0.75] and np.isnan(found.distances[0, 2:]).all()
    assert np.isnan(found.cosines).all()


def test_descriptors_of_another_index_are_refused():
    other = embeddings(["x"] + INDEX[1:20], list(np.eye(20)))
    order = Ranking(("a",), INDEX[:20], np.array([[4]], np.int32), np.zeros((1, 1), np.float32))
    solution = RetrievalSolution({}, {"a": ("i4",)}, [])
    with pytest.raises(DataError, match="other images"):
        results(order, solution, NOTHING, Sides(other, embeddings(["a"], [np.eye(20)[0]])))
    same = embeddings(INDEX[:20], list(np.eye(20)))
    with pytest.raises(DataError, match="1 queries of the ranking have no descriptor, first 'a'"):
        results(order, solution, NOTHING, Sides(same, embeddings(["b"], [np.eye(20)[0]])))


def test_landmarks_are_those_of_the_tables_and_else_of_the_ground_truth():
    truth = {"a": ("i0", "i1"), "b": ("i1", "i2"), "c": ("i9",)}
    table = IndexLandmarks({"i9": 70, "i8": 71}, {70: "Bridge"})
    found = results(ranking({"a": [0, 8, 7]}), RetrievalSolution({}, truth, []), table)
    names = [found.landmarks[landmark] for landmark in found.query_landmarks]
    assert names == ["group 1", "group 1", "Bridge"]  # a and b share an image
    of = {image: found.image_landmarks[place] for place, image in enumerate(found.image_ids)}
    assert found.landmarks[of["i8"]] == "landmark 71" and of["i7"] == -1
    assert found.landmarks[of["i2"]] == "group 1"


def test_confusions_and_scores_by_landmark():
    truth = {"a": ("i0", "i1"), "b": ("i0", "i1"), "c": ("i5",)}
    table = IndexLandmarks({"i0": 1, "i1": 1, "i5": 2, "i6": 2, "i7": 3}, {1: "A", 2: "B", 3: "C"})
    order = ranking({"a": [5, 6, 0, 99], "b": [1, 6, 7], "c": [5]})
    found = results(order, RetrievalSolution({}, truth, []), table)
    a, b, c = (list(found.landmarks).index(name) for name in "ABC")
    # i99 has no landmark and is left out.
    assert confusions(found) == [Confusion(a, b, 2, 3), Confusion(a, c, 1, 1)]
    worst, best = landmark_scores(found)
    assert worst == LandmarkScore(a, 2, pytest.approx((1 / 3 / 2 + 1 / 2) / 2), 2, 4)
    assert best == LandmarkScore(b, 1, 1.0, 1, 1)


def test_a_right_hit_is_no_confusion_whatever_the_tables_call_it():
    table = IndexLandmarks({"i0": 1, "i1": 1, "i2": 2}, {})
    found = results(ranking({"a": [2, 0, 1]}), RetrievalSolution({}, {"a": ("i0", "i1", "i2")}, []), table)
    assert confusions(found) == []
