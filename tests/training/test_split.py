"""Whole classes are held out, the same ones every time, and every query has something to find."""

import time

import numpy as np
import pytest

from retrieval.data.gldv2 import TrainSet
from training.split import queries_and_index, split_by_class
from zoo.errors import DataError


def make(counts: list[int], seed: int = 0) -> TrainSet:
    """A set whose classes have these numbers of images, in random order."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    ids = tuple(f"{number:016x}" for number in range(len(labels)))
    return TrainSet(ids, labels, tuple(100 + 10 * label for label in range(len(counts))))


def landmarks(found: TrainSet) -> dict[str, int]:
    return {image_id: found.landmark_ids[label] for image_id, label in zip(found.ids, found.labels, strict=True)}


COUNTS = [1, 5, 3, 1, 2, 9, 4, 2, 0, 6]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_every_image_is_in_one_part_with_its_landmark(share):
    whole = make(COUNTS)
    trained, held_out = split_by_class(whole, share, 1)
    assert landmarks(trained) | landmarks(held_out) == landmarks(whole)
    assert not set(trained.ids) & set(held_out.ids)
    assert not set(trained.landmark_ids) & set(held_out.landmark_ids)
    for part in (trained, held_out):
        assert part.labels.dtype == np.int64 and len(part.class_counts) == len(part.landmark_ids)
        assert list(part.ids) == sorted(part.ids), "the order of the table"
    assert min(held_out.class_counts) >= 2
    assert len(held_out.landmark_ids) == min(max(1, round(share * 7)), 6)


def test_the_choice_depends_on_the_seed_alone():
    whole = make([2] * 40)
    chosen = [split_by_class(whole, 0.5, seed)[1].landmark_ids for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    part = split_by_class(whole, 0.5, 1)[1]
    drawn = [queries_and_index(part, 30, seed).queries for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("counts", [[], [1, 1, 1], [5, 1]])
def test_a_set_that_cannot_be_split_is_refused(counts):
    with pytest.raises(DataError, match="classes of at least two images; expected at least two"):
        split_by_class(make(counts), 0.5, 0)


@pytest.mark.parametrize("limit", [2, 3, 7, 12, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_queries_find_images_of_their_class_within_the_limit(limit, seed):
    held_out = make([2, 5, 1, 3, 9])
    found = queries_and_index(held_out, limit, seed)
    assert len(found.queries) + len(found.index) <= limit
    assert not set(found.queries) & set(found.index)
    label_of = dict(zip(held_out.ids, held_out.labels.tolist(), strict=True))
    assert [label_of[name] for name in found.queries] == found.query_labels.tolist()
    assert [label_of[name] for name in found.index] == found.index_labels.tolist()
    assert len(set(found.query_labels.tolist())) == len(found.queries), "one query per class"
    assert set(found.query_labels.tolist()) == set(found.index_labels.tolist())
    if limit == 1000:
        assert len(found.queries) == 4 and len(found.index) == 15


def test_no_limit_and_no_class_to_search_are_refused():
    with pytest.raises(DataError, match="at least two images"):
        queries_and_index(make([3]), 1, 0)
    with pytest.raises(DataError, match="no held-out class has two images"):
        queries_and_index(make([1, 1]), 10, 0)


def test_a_set_of_gldv2s_size_takes_seconds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20_000, 400_000)
    whole = TrainSet(tuple(map(str, range(400_000))), labels, tuple(range(20_000)))
    began = time.monotonic()
    _, held_out = split_by_class(whole, 0.1, 0)
    queries_and_index(held_out, 10_000, 0)
    assert time.monotonic() - began < 3
