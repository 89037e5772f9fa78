"""The exact search over mapped, rounded, damaged and awkward descriptors; on CPUs and in PyTorch."""

import numpy as np
import pytest

from retrieval import exact
from retrieval.embeddings import squared_norms
from retrieval.search import search
from retrieval.store import Selection, columns
from zoo.errors import DataError

DEVICES = ["cpu", "bfloat16", pytest.param("cpu:0", id="torch")]
"""`cpu:0` is the CPU as a device of PyTorch, so the code for GPUs runs."""


def rows_of(descriptors: np.ndarray, unreadable: tuple[int, ...] = ()) -> Selection:
    """Descriptors as of a store, with some images that could not be read."""
    norms = squared_norms(descriptors)
    descriptors[list(unreadable)] = 0
    norms[list(unreadable)] = np.inf
    return Selection([f"i{row}" for row in range(len(descriptors))], descriptors, norms, {})


def unit(n: int, dimensions: int, seed: int, dtype: str = "float32") -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(n, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(dtype)


def expected(index: Selection, queries: Selection, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Every distance in float64, sorted by (distance, row)."""
    difference = queries.rows.astype(np.float64)[:, None] - index.rows.astype(np.float64)[None]
    distances = np.linalg.norm(difference, axis=2)
    distances[:, np.isinf(index.squared_norms)] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several groups, blocks and tasks even for a few hundred rows."""
    small = {"GROUP": 13, "BLOCK": 64, "_TASK": 3, "_RESCORED": 10, "WORTHWHILE": 0}
    for name, value in small.items():
        monkeypatch.setattr(exact, name, value)
    monkeypatch.setattr(exact, "QUERIES", 5)


def require_equal(index: Selection, queries: Selection, k: int, device: str) -> None:
    ranking = search(index, queries, k, device=device)
    rows, distances = expected(index, queries, k)
    assert (ranking.rows == rows).all()
    np.testing.assert_allclose(ranking.distances, distances, rtol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_equals_brute_force_in_blocks(small_blocks, dtype, device):
    require_equal(rows_of(unit(500, 24, 0, dtype)), rows_of(unit(40, 24, 1, dtype)), 20, device)


@pytest.mark.parametrize("device", DEVICES)
def test_lengths_that_differ_a_thousandfold(small_blocks, device):
    lengths = 10.0 ** np.random.default_rng(2).uniform(-3, 1, (500, 1))
    require_equal(rows_of((unit(500, 24, 0) * lengths).astype(np.float32)), rows_of(unit(20, 24, 1)), 20, device)


@pytest.mark.parametrize("device", DEVICES)
def test_equal_images_at_the_last_rank_are_taken_by_row(small_blocks, device):
    """More of them than the candidates beyond k: only the second pass finds the first ones."""
    descriptors = unit(400, 24, 0)
    descriptors[150:390] = descriptors[150] + np.random.default_rng(3).integers(0, 3, (240, 1)) * np.float32(1e-7)
    queries = (descriptors[[150, 160, 7]] + np.float32(1e-4)).astype(np.float32)
    require_equal(rows_of(descriptors), rows_of(queries), 10, device)


def test_the_second_pass_is_for_uncertain_queries_only(small_blocks, monkeypatch):
    asked = []
    complete = exact._complete
    monkeypatch.setattr(exact, "_complete", lambda *given: asked.extend(given[2].tolist()) or complete(*given))
    descriptors = unit(400, 24, 0)
    descriptors[50:300] = descriptors[50]
    require_equal(rows_of(descriptors), rows_of(np.stack([unit(1, 24, 9)[0], descriptors[50]])), 10, "cpu")
    assert asked == [1]


@pytest.mark.parametrize("device", DEVICES)
def test_unreadable_images_are_never_found(small_blocks, device):
    descriptors = unit(200, 24, 0)
    index = rows_of(descriptors, unreadable=(0, 3, 199, *range(64, 128)))
    queries = rows_of(np.vstack([unit(9, 24, 1), np.full((1, 24), 1e-3, np.float32)]))  # the last is near zeros
    require_equal(index, queries, 10, device)
    everything = search(index, queries, 1000, device=device)
    assert everything.rows.shape == (10, 133)
    assert not set(everything.rows.ravel()) & {0, 3, 199, *range(64, 128)}


def test_a_part_of_each_descriptor(small_blocks):
    """A member's columns of an ensemble are a view with strides."""
    index, queries = rows_of(unit(300, 24, 0, "float16")), rows_of(unit(10, 24, 1, "float16"))
    require_equal(columns(index, 6, 12), columns(queries, 6, 12), 20, "cpu")


def test_a_mapped_file_is_not_changed(small_blocks, tmp_path):
    np.save(tmp_path / "rows.npy", unit(300, 24, 0, "float16"))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    index = Selection([str(row) for row in range(300)], mapped, squared_norms(mapped), {})
    for device in ("cpu", "bfloat16", "cpu:0"):
        require_equal(index, rows_of(unit(10, 24, 1)), 20, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3.0])
def test_a_damaged_store_is_an_error(small_blocks, wrong, device):
    index, queries = rows_of(unit(300, 24, 0)), rows_of(unit(3, 24, 1))
    index.rows[150, 3] = wrong
    with pytest.raises(DataError, match="the index: .* is damaged; embed the images again"):
        search(index, queries, 5, device=device)
    index, queries = rows_of(unit(300, 24, 0)), rows_of(unit(3, 24, 1))
    queries.rows[1, 3] = wrong
    with pytest.raises(DataError, match="the queries: .* is damaged"):
        search(index, queries, 5, device=device)


def test_refuses_images_that_could_not_be_read():
    readable, none = rows_of(unit(3, 4, 0)), rows_of(unit(2, 4, 0), unreadable=(0, 1))
    with pytest.raises(DataError, match="none of the 2 images of the index could be read"):
        search(none, readable)
    with pytest.raises(DataError, match="query 'i1' could not be read"):
        search(readable, rows_of(unit(2, 4, 0), unreadable=(1,)))


@pytest.mark.parametrize("scale", [1e-25, 1e-15, 1e15])
def test_very_small_and_very_large_descriptors(scale):
    require_equal(rows_of(unit(300, 8, 0) * np.float32(scale)), rows_of(unit(5, 8, 1) * np.float32(scale)), 10, "cpu")
