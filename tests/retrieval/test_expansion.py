"""Query expansion and database augmentation compared with their definitions in plain float64."""

import errno
import os

import numpy as np
import pytest

from retrieval import expansion, neighbours
from retrieval.embeddings import squared_norms
from retrieval.exact import search
from retrieval.expansion import Expansion, expand
from retrieval.neighbours import Neighbours, cosines, other_neighbours
from retrieval.rerank import Reranking, apply
from retrieval.store import Selection
from zoo.disk import temporary_folder
from zoo.errors import OutputError


def made(
    count: int, dtype: str = "float32", seed: int = 0, unreadable: tuple[int, ...] = (), norm: float = 1.0
) -> Selection:
    """Descriptors of a few landmarks, of the norm given."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(4, 16))
    rows = centres[np.arange(count) % 4] + random.normal(size=(count, 16))
    rows = (norm * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)
    norms = squared_norms(rows)
    rows[list(unreadable)], norms[list(unreadable)] = 0, np.inf
    return Selection([f"{seed}-{row}" for row in range(count)], rows, norms, {"model": "m"})


def expected(images: Selection, index: Selection, count: int, alpha: float, *, itself: bool) -> np.ndarray:
    """The definition: a descriptor and its nearest index images, each times its cosine to the power of alpha."""
    own, theirs = images.rows.astype(np.float64), index.rows.astype(np.float64)
    readable = np.flatnonzero(np.isfinite(index.squared_norms))
    new = np.zeros_like(own)
    for place, image in enumerate(own):
        if not np.isfinite(images.squared_norms[place]):
            continue
        others = [row for row in readable if not (itself and row == place)]
        nearest = sorted(others, key=lambda row: np.linalg.norm(theirs[row] - image))[:count]
        total = image.copy()
        for row in nearest:
            cosine = image @ theirs[row] / np.linalg.norm(image) / np.linalg.norm(theirs[row])
            total += max(cosine, 0) ** alpha * theirs[row]
        new[place] = total * np.linalg.norm(image) / np.linalg.norm(total)
    return new


@pytest.fixture(params=["in one block", "in small blocks"], autouse=True)
def blocks(request, monkeypatch):
    if request.param == "in small blocks":
        monkeypatch.setattr(expansion, "_BLOCK", 7)
        monkeypatch.setattr(neighbours, "_BLOCK", 9)


@pytest.mark.parametrize("norm", [1.0, 30.0])
@pytest.mark.parametrize(("count", "alpha"), [(1, 3.0), (3, 0.0), (5, 3.0), (39, 1.0), (39, 0.0)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_augmented_index_is_the_definition(dtype, count, alpha, norm, tmp_path):
    """Images that could not be read add nothing, are not augmented, and leave fewer neighbours than asked for."""
    index = made(40, dtype, unreadable=(0, 9, 10, 11, 12, 13, 14, 15, 16, 17, 38), norm=norm)
    found = other_neighbours(index, count)
    new = expand(tmp_path / "new.npy", index, index, found, Expansion(count, alpha))
    assert new.rows.dtype == dtype
    tolerance = norm * (2e-3 if dtype == "float16" else 2e-6)
    np.testing.assert_allclose(new.rows, expected(index, index, count, alpha, itself=True), rtol=0, atol=tolerance)
    readable = np.isfinite(index.squared_norms)
    np.testing.assert_array_equal(np.isfinite(new.squared_norms), readable)
    np.testing.assert_array_equal(new.squared_norms[readable], squared_norms(new.rows[readable]))  # of what is stored


def test_an_expanded_query_is_the_definition(tmp_path):
    index, queries = made(40, unreadable=(5,)), made(10, seed=1)
    ranking = search(index, queries, 6)
    found = Neighbours(ranking.rows, ranking.distances)
    new = expand(tmp_path / "new.npy", queries, index, found, Expansion(4, 2.0))
    np.testing.assert_allclose(new.rows, expected(queries, index, 4, 2.0, itself=False), rtol=0, atol=2e-6)


def test_a_neighbour_that_points_the_other_way_adds_nothing(tmp_path):
    rows = np.array([[1, 0], [-1, 0.01]], np.float32)
    index = Selection(["a", "b"], rows, squared_norms(rows), {})
    new = expand(tmp_path / "new.npy", index, index, other_neighbours(index, 1), Expansion(1, 0.5))
    np.testing.assert_allclose(new.rows, rows, rtol=0, atol=1e-6)


def test_other_neighbours_of_equal_images_do_not_include_the_image_itself():
    rows = np.ones((30, 3), np.float32)
    found = other_neighbours(Selection(list(map(str, range(30))), rows, squared_norms(rows), {}), 4)
    assert found.rows.shape == (30, 4)
    for place, row in enumerate(found.rows):
        assert place not in row and len(set(row)) == 4 and (row >= 0).all()


def test_cosines_follow_from_distances():
    own, theirs = made(5, norm=3.0), made(7, seed=1, norm=0.5)
    distances = np.linalg.norm(own.rows[:, None] - theirs.rows[None], axis=2)
    distances[2, 3] = np.inf
    products = own.rows.astype(np.float64) @ theirs.rows.T / (3 * 0.5)
    products[2, 3] = 0
    found = cosines(distances, own.squared_norms, np.broadcast_to(theirs.squared_norms, (5, 7)))
    np.testing.assert_allclose(found, products, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [3, 12])
def test_both_are_applied_to_a_ranking(count, tmp_path):
    """The augmented index is searched with queries that are expanded by it, also by more neighbours than hits are wanted."""
    index, queries = made(40, unreadable=(4,)), made(6, seed=1)
    augmented = expand(tmp_path / "index.npy", index, index, other_neighbours(index, 2), Expansion(2, 3.0))
    searched = search(augmented, queries, count)
    expanded = expand(
        tmp_path / "queries.npy", queries, augmented, Neighbours(searched.rows, searched.distances), Expansion(count)
    )
    wanted = search(augmented, expanded, 5)
    parameters = Reranking(augment_database=Expansion(2), expand_queries=Expansion(count))
    found = apply(index, queries, search(index, queries, 5), parameters)
    np.testing.assert_array_equal(found.rows, wanted.rows)
    np.testing.assert_array_equal(found.distances, wanted.distances)
    assert not (found.rows == 4).any()


def test_a_disk_that_fills_up_is_an_error_and_not_the_end_of_the_process(monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    index, queries = made(20), made(3, seed=1)
    with pytest.raises(OutputError, match="No space left on device"):
        apply(index, queries, search(index, queries, 5), Reranking(expand_queries=Expansion(2)))


def test_nothing_is_left_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with temporary_folder() as folder:
        assert folder.is_relative_to(tmp_path)
    index, queries = made(20), made(3, seed=1)
    apply(index, queries, search(index, queries, 5), Reranking(Expansion(2), Expansion(2)))
    assert not list(tmp_path.iterdir())
