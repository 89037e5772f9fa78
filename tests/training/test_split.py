"""Whole classes are held out, the same ones every time."""

import time

import numpy as np
import pytest

from retrieval.data.gldv2 import TrainSet
from training.split import split_by_class
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


@pytest.mark.parametrize("counts", [[], [1, 1, 1], [5, 1]])
def test_a_set_that_cannot_be_split_is_refused(counts):
    with pytest.raises(DataError, match="classes of at least two images; expected at least two"):
        split_by_class(make(counts), 0.5, 0)


def test_a_set_of_gldv2s_size_takes_seconds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20_000, 400_000)
    whole = TrainSet(tuple(map(str, range(400_000))), labels, tuple(range(20_000)))
    began = time.monotonic()
    split_by_class(whole, 0.1, 0)
    assert time.monotonic() - began < 3
