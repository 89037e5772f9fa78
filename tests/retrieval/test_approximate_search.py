"""Indexes of faiss by their factory strings: what they find, and what they leave out."""

import numpy as np
import pytest

from retrieval.approximate import approximate_index, approximate_search, measure_recall
from retrieval.embeddings import squared_norms
from retrieval.search import search
from retrieval.store import Selection
from zoo.errors import DataError, SpecError


def rows_of(n: int, seed: int, unreadable: tuple[int, ...] = ()) -> Selection:
    descriptors = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float16)
    norms = squared_norms(descriptors)
    descriptors[list(unreadable)], norms[list(unreadable)] = 0, np.inf
    return Selection([f"i{row}" for row in range(n)], descriptors, norms, {})


INDEX, QUERIES = rows_of(2000, 0, unreadable=(0, 1, 700)), rows_of(50, 1)


def test_flat_finds_what_the_exact_search_finds():
    found, exact = approximate_search(INDEX, QUERIES, approximate_index(INDEX, "Flat"), 20), search(INDEX, QUERIES, 20)
    assert (found.rows == exact.rows).all() and (found.distances == exact.distances).all()
    assert measure_recall(INDEX, QUERIES, found) == (1.0, 50)


def test_parameters_decide_the_recall():
    recalls = [
        measure_recall(
            INDEX,
            QUERIES,
            approximate_search(INDEX, QUERIES, approximate_index(INDEX, "IVF16,Flat", f"nprobe={probes}"), 20),
        ).share
        for probes in (1, 4, 16)
    ]
    assert 0.1 < recalls[0] < recalls[1] < recalls[2] == 1


def test_recall_is_measured_on_a_sample():
    found = approximate_search(INDEX, QUERIES, approximate_index(INDEX, "IVF16,Flat", "nprobe=2"), 20)
    whole, sample = measure_recall(INDEX, QUERIES, found), measure_recall(INDEX, QUERIES, found, 10)
    assert (whole.queries, sample.queries) == (50, 10)
    assert whole.share != sample.share and abs(whole.share - sample.share) < 0.3
    assert measure_recall(INDEX, QUERIES, found, 10) == sample


@pytest.mark.parametrize("factory", ["Flat", "IVF16,SQ8", "HNSW8", "PCA8,IVF4,Flat"])
def test_unreadable_images_are_never_found(factory):
    """They are rows of zeros, nearer to such a query than any other."""
    near_zero = Selection(["q"], np.full((1, 16), 1e-3, np.float32), np.array([1.6e-5]), {})
    found = approximate_search(INDEX, near_zero, approximate_index(INDEX, factory), 50)
    assert not set(found.rows[0]) & {0, 1, 700}
    assert (np.diff(found.distances) >= 0).all()


def test_short_lists_have_fewer_hits():
    """An inverted list that is visited may hold fewer images than are wanted."""
    found = approximate_search(INDEX, QUERIES, approximate_index(INDEX, "IVF64,Flat", "nprobe=1"), 100)
    lengths = [len(hits) for hits in found.hits]
    assert min(lengths) < 100
    for hits, rows, distances in zip(found.hits, found.rows, found.distances, strict=True):
        assert (rows[len(hits) :] == -1).all() and np.isinf(distances[len(hits) :]).all()
        assert np.isfinite(distances[: len(hits)]).all() and hits == tuple(f"i{row}" for row in rows[: len(hits)])


def test_what_faiss_does_not_take_is_explained():
    with pytest.raises(SpecError, match="does not take the index 'Nonsense'.*index-factory"):
        approximate_index(INDEX, "Nonsense")
    with pytest.raises(SpecError, match="does not take the search parameters 'nonsense=3'"):
        approximate_index(INDEX, "Flat", "nonsense=3")
    with pytest.raises(DataError, match="'IVF4096,Flat' cannot be trained on 1,997 images.*Choose a smaller one"):
        approximate_index(INDEX, "IVF4096,Flat")
