"""The map: neighbours stay neighbours, the same seed gives the same map, and images without a place are marked."""

import numpy as np
import pytest

import retrieval.viewer.descriptor_map as module
from retrieval.data.landmarks import IndexLandmarks
from retrieval.solution import RetrievalSolution
from retrieval.viewer.descriptor_map import ABSENT, descriptor_map
from retrieval.viewer.results import Results, results
from retrieval.viewer.similarities import Sides
from tests.retrieval.viewer.small_reports import embeddings, nearest
from zoo.errors import DataError

pytest.importorskip("openTSNE")
GROUPS, EACH = 4, 12


def clusters(groups: int = GROUPS, each: int = EACH) -> tuple[Results, Sides]:
    """Queries and index images of a few tight groups in 64 dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(groups, 64))
    rows = [
        [centres[group] + 0.05 * rng.normal(size=64) for group in range(groups) for _ in range(n)] for n in (each, 2)
    ]
    index = embeddings([f"i{number}" for number in range(groups * each)], rows[0])
    asked = embeddings([f"q{number:02}" for number in range(groups * 2)], rows[1])
    truth = {query: tuple(f"i{number // 2 * each + k}" for k in range(each)) for number, query in enumerate(asked.ids)}
    found = results(
        nearest(index, asked, 10), RetrievalSolution({}, truth, []), IndexLandmarks({}, {}), Sides(index, asked)
    )
    return found, Sides(index, asked)


def test_neighbours_stay_neighbours_and_the_seed_decides():
    found, sides = clusters()
    positions = descriptor_map(found, sides)
    assert positions.shape == (len(found.query_ids) + len(found.image_ids), 2) and positions.dtype == np.uint16
    assert (positions != ABSENT).all()
    groups = np.concatenate([found.query_landmarks, found.image_landmarks])
    distances = np.linalg.norm(positions[:, None].astype(float) - positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (groups[distances.argmin(axis=1)] == groups).mean() > 0.95
    np.testing.assert_array_equal(positions, descriptor_map(found, sides))
    assert (positions != descriptor_map(found, sides, seed=1)).any()


def test_beyond_the_limit_images_are_marked_as_absent(monkeypatch):
    found, sides = clusters()
    monkeypatch.setattr(module, "POINTS", len(found.query_ids) + 10)
    positions = descriptor_map(found, sides)
    there = (positions != ABSENT).all(axis=1)
    assert there[: len(found.query_ids) + 10].all() and not there[len(found.query_ids) + 10 :].any()


def test_too_few_points_are_an_error():
    found, sides = clusters(1, 1)
    with pytest.raises(DataError, match="at least 8 images"):
        descriptor_map(found, sides)


def test_the_fewest_points_make_a_map():
    found, sides = clusters(1, module.FEWEST - 2)
    assert len(found.query_ids) + len(found.image_ids) == module.FEWEST
    assert (descriptor_map(found, sides) != ABSENT).all()
