"""Whether one ranking is better than another on the same queries: a paired test and an interval of the difference.

A mAP over a few dozen queries moves by several hundredths when other queries are drawn, so no difference of two scores is shown
without them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import DataError

SIGNIFICANCE = 0.05
RESAMPLES = 10_000
_NUMBERS = 1 << 24
"""Drawn at once."""


@dataclass(frozen=True)
class Comparison:
    """A difference of mean average precisions over the same queries, first minus second.

    Attributes:
        difference: of the two means.
        interval: 95 %, by the percentile bootstrap over the queries.
        p: two-sided, of the paired randomisation test.
        queries: how many there are.
        better, worse: for how many of them the first ranking has the higher or the lower precision.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    queries: int
    better: int
    worse: int

    @property
    def shown(self) -> bool:
        """Whether a difference of this size would be rare, below 5 %, if the rankings were equally good."""
        return self.p < SIGNIFICANCE

    def __str__(self) -> str:
        return sentence(self.as_json())

    def as_json(self) -> dict[str, float | int | list[float]]:
        """Its figures by name."""
        return {
            "difference": self.difference,
            "interval": list(self.interval),
            "p": self.p,
            "queries": self.queries,
            "better": self.better,
            "worse": self.worse,
        }


def compare(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> Comparison:
    """Compares two rankings by their precisions on the same queries.

    Args:
        first, second: one value per query, for example AP@100, in the same order.

    Raises:
        DataError: there are no queries, or not the same number.
    """
    if len(first) != len(second):
        raise DataError(f"expected two rankings of the same queries, found {len(first):,} and {len(second):,}.")
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    interval = bootstrap_interval(differences)
    return Comparison(
        float(differences.mean()),
        interval,
        randomisation_test(differences),
        len(differences),
        int((differences > 0).sum()),
        int((differences < 0).sum()),
    )


def randomisation_test(
    differences: Sequence[float] | np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Two-sided p-value of paired differences (Fisher 1935; for retrieval, Smucker, Allan and Carterette, CIKM 2007).

    If two rankings are equally good, each query's difference could as well have the other sign. The p-value is the share of random
    choices of signs whose mean is as far from 0 as the observed one, which is counted as one of them, so p is never 0.

    Args:
        differences: one per query.
        resamples: how often signs are drawn.
        seed: of the drawing.
    """
    changed = np.asarray(differences, np.float64)
    changed = changed[changed != 0]
    if not len(changed):
        return 1.0
    size, generator = np.abs(changed), np.random.default_rng(seed)
    observed = abs(changed.sum()) - 1e-9 * size.sum()  # sums in another order are equal up to rounding
    as_far = 0
    for count in _blocks(resamples, len(size)):
        flipped = np.unpackbits(generator.integers(256, size=(count, -(-len(size) // 8)), dtype=np.uint8), axis=1)
        # Signs ±1 are 1 - 2 × bit.
        sums = size.sum() - 2 * (flipped[:, : len(size)].astype(np.float64) @ size)
        as_far += int((np.abs(sums) >= observed).sum())
    return (as_far + 1) / (resamples + 1)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, *, share: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Interval of the mean of per-query values by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: one per query, for example AP@100.
        share: of the resampled means that the interval holds.
        resamples: how often queries are drawn with replacement.
        seed: of the drawing; the same values give the same interval.

    Raises:
        DataError: there are no values.
    """
    if not len(values):
        raise DataError("there are no scored queries, so there is no interval.")
    numbers, generator = np.asarray(values, np.float64), np.random.default_rng(seed)
    means = [
        numbers[generator.integers(len(numbers), size=(count, len(numbers)), dtype=np.int32)].mean(axis=1)
        for count in _blocks(resamples, len(numbers))
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def sentence(figures: Mapping[str, Any]) -> str:
    """What the figures of a comparison (`Comparison.as_json`) say, for example
    "+0.0235 (95 % interval -0.0130 to +0.0600), p = .22: not shown on 72 queries".
    """
    low, high = figures["interval"]
    verdict = "shown" if figures["p"] < SIGNIFICANCE else "not shown"
    queries = figures["queries"]
    return (
        f"{figures['difference']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}), {p_text(figures['p'])}: {verdict} on "
        f"{queries:,} {'query' if queries == 1 else 'queries'}"
    )


def p_text(p: float) -> str:
    """A p-value as people write it: "p = .22", "p = .031", "p < .001"."""
    if p < 0.001:
        return "p < .001"
    if p > 0.995:
        return "p = 1"
    return f"p = {p:.{2 if p >= 0.1 else 3}f}".replace("0.", ".")


def _blocks(resamples: int, queries: int) -> list[int]:
    """Parts of `resamples`, so that not too many numbers are drawn at once."""
    size = max(1, _NUMBERS // queries)
    return [min(size, resamples - start) for start in range(0, resamples, size)]
