"""The paired test and the interval, compared with an exact enumeration, with known chances, and with plain resampling."""

import itertools

import numpy as np
import pytest

from retrieval import comparison
from retrieval.comparison import bootstrap_interval, compare, p_text, randomisation_test
from zoo.errors import DataError


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1])
def test_p_is_the_share_of_all_signs(shift):
    differences = np.random.default_rng(1).normal(shift, 0.1, size=11).round(2)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=11)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    assert randomisation_test(differences) == pytest.approx(exact, abs=4 * np.sqrt(0.25 / comparison.RESAMPLES))
    # A query of which both rankings make the same changes nothing.
    assert randomisation_test([*differences, 0.0, 0.0]) == randomisation_test(differences)
    assert randomisation_test(-differences) == randomisation_test(differences)


def test_p_is_uniform_if_there_is_no_difference():
    random = np.random.default_rng(2)
    found = np.array([randomisation_test(random.normal(size=40), resamples=500, seed=seed) for seed in range(300)])
    for level in (0.05, 0.25, 0.5):
        assert (found <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 300))


def test_equal_rankings_are_not_different():
    found = compare([0.5, 0.25], [0.5, 0.25])
    assert (found.difference, found.interval, found.p, found.shown) == (0, (0, 0), 1, False)
    assert str(found).endswith("p = 1: not shown on 2 queries")


def test_a_difference_that_all_queries_share_is_shown():
    first = np.full(30, 0.6)
    second = first - np.linspace(0.01, 0.03, 30)
    found = compare(first, second)
    assert found.shown and found.p < 0.001
    assert found.difference == pytest.approx(0.02) and found.interval[0] > 0.015
    assert (found.queries, found.better, found.worse) == (30, 30, 0)
    turned = compare(second, first)
    assert turned.difference == -found.difference and turned.p == found.p
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=1e-3)


def test_pairs_count_and_not_only_means():
    """The same values in another order are the same two means, but not the same pairs."""
    random = np.random.default_rng(3)
    second = random.uniform(size=60)
    first = second + 0.01
    paired, shuffled = compare(first, second), compare(random.permutation(first), second)
    assert paired.difference == pytest.approx(shuffled.difference)
    assert paired.shown and not shuffled.shown


def test_what_is_drawn_does_not_depend_on_the_memory(monkeypatch):
    values = np.random.default_rng(4).normal(size=30)
    whole = randomisation_test(values), bootstrap_interval(values)
    monkeypatch.setattr(comparison, "_NUMBERS", 64 * 30)
    assert randomisation_test(values) == pytest.approx(whole[0], abs=0.02)
    assert bootstrap_interval(values) == pytest.approx(whole[1], abs=0.02)


def test_a_bootstrap_interval_covers_the_mean_and_narrows_with_more_queries():
    values = np.random.default_rng(0).uniform(size=400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert bootstrap_interval(values) == (low, high)
    # The normal approximation: 1.96 standard errors on either side.
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    few_low, few_high = bootstrap_interval(values[:25])
    assert few_high - few_low > 2 * (high - low)
    assert bootstrap_interval([0.5] * 9) == (0.5, 0.5)
    with pytest.raises(DataError, match="no scored queries"):
        bootstrap_interval([])


def test_two_rankings_of_other_queries_are_refused():
    with pytest.raises(DataError, match="the same queries, found 1 and 2"):
        compare([1], [1, 0])


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "p = 1"), (0.22, "p = .22"), (0.0312, "p = .031"), (0.0012, "p = .001"), (0.0001, "p < .001")]
)
def test_how_p_is_written(p, text):
    assert p_text(p) == text
