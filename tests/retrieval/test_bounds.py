"""The scores that a search trusts are never too small, whatever the descriptors."""

import numpy as np
import pytest

from retrieval.bounds import EXTRA, distances_to, least_score, query_columns, row_columns
from retrieval.embeddings import squared_norms


def descriptors(kind: str, n: int, dimensions: int, seed: int) -> np.ndarray:
    """float32 [n, D] whose products are hard on float32 in another way each."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(n, dimensions)).astype(np.float32)
    if kind == "unit":
        return made / np.linalg.norm(made, axis=1, keepdims=True)
    if kind == "positive":  # no term cancels: errors are as large as they get
        return np.abs(made) + 1
    if kind == "lengths":
        return (made * 10.0 ** rng.integers(-6, 6, (n, 1))).astype(np.float32)
    if kind == "tiny":  # products underflow
        return made * np.float32(1e-22)
    return np.repeat(made[:1], n, axis=0) + made * np.float32(1e-6)


@pytest.mark.parametrize("kind", ["unit", "positive", "lengths", "tiny", "close"])
@pytest.mark.parametrize("dimensions", [1, 2, 7, 512])
def test_a_score_is_never_too_small(kind, dimensions):
    rows, queries = descriptors(kind, 200, dimensions, 0), descriptors(kind, 50, dimensions, 1)
    row_norms, query_norms = squared_norms(rows), np.sqrt(squared_norms(queries))
    augmented = np.hstack([queries, query_columns(query_norms, dimensions)])
    scores = augmented @ np.hstack([rows, row_columns(row_norms, dimensions)]).T
    assert augmented.shape[1] == dimensions + EXTRA and scores.dtype == np.float32
    for query, descriptor in enumerate(queries.astype(np.float64)):
        distances = distances_to(descriptor, rows)
        least = least_score(distances, np.full(len(rows), query_norms[query]), dimensions)
        assert (scores[query] >= least).all()


def test_without_the_bound_some_scores_are_too_small():
    """So the test above can fail: plain float32 products are off in both directions."""
    rows, queries = descriptors("unit", 200, 512, 0), descriptors("unit", 50, 512, 1)
    plain = (
        np.hstack([queries, np.ones((50, 1), np.float32)])
        @ np.hstack([rows, (-squared_norms(rows) / 2)[:, None].astype(np.float32)]).T
    )
    least = np.stack(
        [least_score(distances_to(q.astype(float), rows), np.full(200, np.linalg.norm(q)), 512) for q in queries]
    )
    assert (plain < least).any()


def test_the_bound_is_small():
    """Too large a bound would be right as well, but would certify nothing."""
    rows = descriptors("unit", 100, 2048, 0)
    norms = squared_norms(rows)
    scores = np.hstack([rows, query_columns(np.sqrt(norms), 2048)]) @ np.hstack([rows, row_columns(norms, 2048)]).T
    assert np.abs(scores - (rows.astype(np.float64) @ rows.T.astype(np.float64) - norms / 2)).max() < 3e-4


def test_an_unreadable_image_has_no_score():
    columns = row_columns(np.array([1.0, np.inf]), 4)
    assert columns[1, 0] == -np.inf and columns[1, 1] < 1e-40
    assert np.isfinite(columns[0]).all()


def test_distances_do_not_depend_on_what_else_is_computed():
    rng = np.random.default_rng(0)
    rows, query = rng.normal(size=(40, 37)).astype(np.float32), rng.normal(size=37)
    whole = distances_to(query, rows)
    for start in range(40):
        assert distances_to(query, rows[start : start + 3].copy())[0] == whole[start]
