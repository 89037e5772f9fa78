"""How classes are divided among processes, and which of them a step compares with."""

import numpy as np
import pytest

from training.classes import drawn_classes, own_classes


@pytest.mark.parametrize(("classes", "processes"), [(7, 1), (7, 3), (8, 4), (203_094, 8), (3, 3)])
def test_every_class_belongs_to_one_process(classes, processes):
    parts = [own_classes(classes, rank, processes) for rank in range(processes)]
    assert [number for part in parts for number in part] == list(range(classes))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_drawn_classes_do_not_depend_on_the_number_of_processes():
    labels = np.random.default_rng(0).integers(0, 1000, 32)
    whole = drawn_classes(range(1000), labels, 0.1, seed=3, step=7)
    for processes in (2, 3):
        parts = [own_classes(1000, rank, processes) for rank in range(processes)]
        found = [part.start + drawn_classes(part, labels, 0.1, seed=3, step=7) for part in parts]
        assert np.array_equal(np.concatenate(found), whole)


def test_the_batch_s_own_classes_are_drawn_and_a_share_of_the_others():
    labels = np.arange(0, 20_000, 1000)
    drawn = [drawn_classes(range(20_000), labels, 0.1, seed=1, step=step) for step in range(20)]
    assert all(set(labels) <= set(found) for found in drawn)
    counts = [len(found) - len(labels) for found in drawn]
    assert abs(np.mean(counts) / 20_000 - 0.1) < 0.003
    assert len({tuple(found) for found in drawn}) == 20, "each step draws others"
    often = np.bincount(np.concatenate(drawn), minlength=20_000)[1:]
    assert np.isclose(often[often < 20].mean(), 2, atol=0.1)


def test_at_least_one_class_is_drawn_and_all_of_them_with_a_share_of_one():
    assert len(drawn_classes(range(5, 9), np.array([100]), 1e-12, seed=0, step=0)) == 1
    assert list(drawn_classes(range(5, 9), np.array([6]), 1.0, seed=0, step=0)) == [0, 1, 2, 3]
