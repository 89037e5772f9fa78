"""Sparse k-reciprocal re-ranking compared with a dense implementation of the paper, which has an entry for each pair of images."""

import numpy as np
import pytest

from retrieval import reciprocal
from retrieval.embeddings import squared_norms
from retrieval.exact import search
from retrieval.neighbours import other_neighbours
from retrieval.ranking import Ranking
from retrieval.reciprocal import KReciprocal, rerank
from retrieval.store import Selection
from zoo.errors import DataError


def made(count: int, seed: int, *, unit: bool = True) -> np.ndarray:
    """Descriptors of five landmarks, float32 [count, 12]."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(5, 12))
    values = centres[random.integers(5, size=count)] + 0.6 * random.normal(size=(count, 12))
    return (values / np.linalg.norm(values, axis=1, keepdims=True) if unit else values).astype(np.float32)


def rows_of(values: np.ndarray, unreadable: tuple[int, ...] = ()) -> Selection:
    values = values.copy()
    norms = squared_norms(values)
    values[list(unreadable)], norms[list(unreadable)] = 0, np.inf
    return Selection([str(row) for row in range(len(values))], values, norms, {"model": "m"})


def dense(index: np.ndarray, queries: np.ndarray, k1: int, k2: int, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """The final distances and the distances, float64 [q, N], by the formulas of Zhong et al. (2017), sections 3.2 to 3.5."""
    everything = np.concatenate([index, queries]).astype(np.float64)
    unit = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    distance, euclidean = 1 - unit @ unit.T, np.linalg.norm(everything[:, None] - everything[None], axis=2)
    np.fill_diagonal(distance, 0)
    np.fill_diagonal(euclidean, -1)  # an image is the first of its own list
    count = len(everything)
    order = np.argsort(euclidean, axis=1, kind="stable")

    def mutual(image: int, k: int) -> set[int]:
        return {other for other in order[image, : k + 1] if image in order[other, : k + 1]}

    encoded = np.zeros((count, count))
    for image in range(count):
        own = mutual(image, k1)
        members = set(own)
        for other in own:
            theirs = mutual(other, round(k1 / 2))
            if len(theirs & own) > 2 / 3 * len(theirs):
                members |= theirs
        columns = sorted(members)
        weights = np.exp(-distance[image, columns])
        encoded[image, columns] = weights / weights.sum()
    encoded = np.stack([encoded[order[image, :k2]].mean(axis=0) for image in range(count)])
    jaccard = np.empty((len(queries), len(index)))
    for query in range(len(queries)):
        for image in range(len(index)):
            one, other = encoded[len(index) + query], encoded[image]
            jaccard[query, image] = 1 - np.minimum(one, other).sum() / np.maximum(one, other).sum()
    between = distance[len(index) :, : len(index)]
    return (1 - weight) * jaccard + weight * between, between


def require_dense(found: Ranking, final: np.ndarray, between: np.ndarray) -> None:
    """The same distances, and the same images up to pairs whose distances differ by rounding."""
    length = found.rows.shape[1]
    for query, (rows, distances) in enumerate(zip(found.rows, found.distances, strict=True)):
        assert len(set(rows.tolist())) == length and (np.diff(distances) >= 0).all()
        np.testing.assert_allclose(distances, final[query, rows], rtol=0, atol=2e-6)
        best = np.lexsort((between[query], final[query]))[:length]
        np.testing.assert_allclose(distances, final[query, best], rtol=0, atol=2e-6)


@pytest.fixture(params=["in one block", "in small blocks"], autouse=True)
def blocks(request, monkeypatch):
    if request.param == "in small blocks":
        monkeypatch.setattr(reciprocal, "_NUMBERS", 500)


@pytest.mark.parametrize("length", [10, 60])
@pytest.mark.parametrize(
    ("k1", "k2", "weight"),
    [(10, 3, 0.3), (7, 1, 0.0), (20, 6, 0.3), (5, 5, 1.0), (1, 1, 0.5), (6, 2, 0.0), (100, 3, 0.3)],
)
def test_it_is_the_dense_implementation(k1, k2, weight, length):
    """Also for the first hits only, for lists longer than the set, and by the Jaccard distance alone."""
    index, queries = made(60, 0), made(9, 1)
    sides = rows_of(index), rows_of(queries)
    found = rerank(*sides, search(*sides, length), KReciprocal(k1, k2, weight))
    assert found.rows.shape == (9, length)
    require_dense(found, *dense(index, queries, k1, k2, weight))


def test_images_that_share_nothing_stay_in_the_order_of_their_distances():
    """By the Jaccard distance alone they are all equally far."""
    sides = rows_of(made(60, 0)), rows_of(made(9, 1))
    before = search(*sides, 60)
    after = rerank(*sides, before, KReciprocal(6, 2, 0.0))
    for query, (rows, distances) in enumerate(zip(after.rows, after.distances, strict=True)):
        last = rows[distances == 1]
        assert len(last) > 5
        np.testing.assert_array_equal(last, [row for row in before.rows[query] if row in last])


def test_norms_that_differ():
    """The lists are ordered by the Euclidean distance, and the distance between descriptions is that of their directions."""
    index, queries = made(60, 0, unit=False), made(9, 1, unit=False)
    sides = rows_of(index), rows_of(queries)
    found = rerank(*sides, search(*sides, 60), KReciprocal(10, 3))
    require_dense(found, *dense(index, queries, 10, 3, 0.3))


def test_it_changes_the_order():
    sides = rows_of(made(60, 0)), rows_of(made(9, 1))
    before = search(*sides, 10)
    after = rerank(*sides, before, KReciprocal(10, 3, 0.3))
    assert (before.rows != after.rows).any(axis=1).mean() > 0.5
    assert any(set(one) != set(other) for one, other in zip(before.rows.tolist(), after.rows.tolist(), strict=True))


def test_the_unit_of_the_descriptors_does_not_matter():
    index, queries = made(50, 2), made(5, 3)
    found = [
        rerank(*sides, search(*sides, 50), KReciprocal(8, 3, 0.3))
        for sides in ((rows_of(index), rows_of(queries)), (rows_of(8 * index), rows_of(8 * queries)))
    ]
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    np.testing.assert_allclose(found[0].distances, found[1].distances, rtol=0, atol=1e-6)


def test_images_that_could_not_be_read_change_nothing():
    index, queries = made(50, 2), made(5, 3)
    unreadable = (0, 7, 30, 52)
    with_them = rows_of(np.insert(index, [0, 6, 28, 49], 1.0, axis=0), (0, 7, 30, 52))
    kept = np.delete(np.arange(54), unreadable)
    queried = rows_of(queries)
    found = rerank(with_them, queried, search(with_them, queried, 20), KReciprocal(8, 3, 0.3))
    wanted = rerank(rows_of(index), queried, search(rows_of(index), queried, 20), KReciprocal(8, 3, 0.3))
    np.testing.assert_array_equal(found.rows, kept[wanted.rows])
    np.testing.assert_allclose(found.distances, wanted.distances, rtol=0, atol=1e-6)


def test_neighbours_that_are_known_are_not_searched_again():
    sides = rows_of(made(60, 0)), rows_of(made(9, 1))
    ranking, parameters = search(*sides, 10), KReciprocal(10, 3, 0.3)
    known = other_neighbours(sides[0], 25)
    found, wanted = rerank(*sides, ranking, parameters, known=known), rerank(*sides, ranking, parameters)
    np.testing.assert_array_equal(found.rows, wanted.rows)
    known.rows[:] = np.roll(known.rows, 1, axis=0)  # it is used
    assert (rerank(*sides, ranking, parameters, known=known).distances != wanted.distances).any()


def test_equal_images_are_all_found():
    """More copies of an image than a list is long."""
    index = np.repeat(made(6, 4), 12, axis=0)
    sides = rows_of(index), rows_of(index[::12])
    found = rerank(*sides, search(*sides, 12), KReciprocal(4, 2, 0.3))
    for query, rows in enumerate(found.rows):
        assert set(rows // 12) == {query}


def test_more_averaged_than_listed_is_refused():
    with pytest.raises(DataError, match="k2 of at most k1, which is 3, found 4"):
        KReciprocal(3, 4)
