"""The statistics of `benchmarks.schedule`: scores, paired differences and ensembles, each with its intervals.

Two kinds of chance are kept apart. The interval over seeds says what other seeds would give on the same queries, the one over
queries what other queries would give with the same trained networks.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.schedule_arms import ARMS
from retrieval.comparison import bootstrap_interval
from retrieval.metrics import average_precision

Member = tuple[str, str, int]
"""Model, arm and seed of a training."""
Precisions = Mapping[Member, np.ndarray]
"""AP@100 of each query, float64 [queries], by training."""
Together = Callable[[Sequence[Member]], np.ndarray]
"""AP@100 of each query for the concatenated descriptors of several trainings."""

ALL = "mean of the models"
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Two-sided 95 % quantiles of Student's t distribution for 1, 2, … 30 degrees of freedom."""


def t_interval(values: Sequence[float]) -> list[float] | None:
    """95 % interval of the mean of normally distributed values; None for a single one. It is a little wide for more than 31."""
    if len(values) < 2:
        return None
    quantile = _T95[min(len(values) - 2, len(_T95) - 1)]
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return [mean - half, mean + half]


def ranked_precisions(
    index: np.ndarray, index_ids: Sequence[str], queries: np.ndarray, truth: Sequence[Sequence[str]], k: int = 100
) -> np.ndarray:
    """AP@K of each query, by exact Euclidean search; equal distances keep the index's order.

    Args:
        index: float32 [N, D].
        index_ids: of its rows.
        queries: float32 [Q, D].
        truth: the ids of each query's relevant images.
        k: ranks that count.

    Returns:
        float64 [Q].
    """
    rows, wanted = index.astype(np.float64), queries.astype(np.float64)
    distances = (rows * rows).sum(axis=1) - 2 * wanted @ rows.T  # without the query's own square, which orders nothing
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    ranked = zip(order, truth, strict=True)
    return np.array([average_precision([index_ids[int(place)] for place in row], right, k) for row, right in ranked])


def complete_seeds(precisions: Precisions, models: Sequence[str]) -> list[int]:
    """The seeds whose trainings are finished in all arms of the models, ascending."""
    found = sorted({seed for _, _, seed in precisions})
    return [s for s in found if all((m, arm, s) in precisions for m in models for arm in ARMS)]


def summary(precisions: Precisions, models: Sequence[str], together: Together) -> dict[str, Any]:
    """Everything that the report shows, from the seeds that are complete.

    Returns:
        {"scores": rows, "differences": rows, "ensembles": rows}; see the functions that make them.
    """
    return {
        "scores": _scores(precisions, models),
        "differences": _differences(precisions, models),
        "ensembles": [*_of_models(precisions, models, together), *_of_seeds(precisions, models, together)],
    }


def _scores(precisions: Precisions, models: Sequence[str]) -> list[dict]:
    """mAP@100 per model and arm: mean and standard deviation over the seeds."""
    rows = []
    for model, arm in itertools.product(models, ARMS):
        values = [float(precisions[model, arm, seed].mean()) for seed in complete_seeds(precisions, [model])]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            rows.append({"model": model, "arm": arm, "mean": statistics.fmean(values), "deviation": deviation})
            rows[-1]["seeds"] = len(values)
    return rows


def _differences(precisions: Precisions, models: Sequence[str]) -> list[dict]:
    """mAP@100 of each arm minus that of the first one with the same seed, per model and over all of them."""
    groups = {model: [model] for model in models} | ({ALL: list(models)} if len(models) > 1 else {})
    first, *others = ARMS
    rows = []
    for (title, members), arm in itertools.product(groups.items(), others):
        if seeds := complete_seeds(precisions, members):
            pairs = [np.mean([precisions[m, arm, s] - precisions[m, first, s] for m in members], axis=0) for s in seeds]
            rows.append({"model": title, "arm": arm} | _difference(pairs))
    return rows


def _of_models(precisions: Precisions, models: Sequence[str], together: Together) -> list[dict]:
    """Per arm: the models of one seed together, minus the best of them."""
    seeds = complete_seeds(precisions, models) if len(models) > 1 else []
    rows = []
    for arm in ARMS if seeds else ():
        groups = [[(model, arm, seed) for model in models] for seed in seeds]
        rows.append({"members": f"{len(models)} models", "arm": arm} | _gain(precisions, groups, together))
    return rows


def _of_seeds(precisions: Precisions, models: Sequence[str], together: Together) -> list[dict]:
    """Per model and arm: all seeds together, minus the best of them."""
    rows = []
    for model, arm in itertools.product(models, ARMS):
        seeds = complete_seeds(precisions, [model])
        if len(seeds) > 1:
            group = [(model, arm, seed) for seed in seeds]
            rows.append(
                {"members": f"{len(seeds)} seeds of {model}", "arm": arm} | _gain(precisions, [group], together)
            )
    return rows


def _gain(precisions: Precisions, groups: Sequence[Sequence[Member]], together: Together) -> dict:
    """Mean scores of ensembles and of their best members, and the difference.

    The best member is chosen by its score on the same queries, which favours the member.
    """
    ensembles = [together(group) for group in groups]
    best = [max((precisions[member] for member in group), key=np.mean) for group in groups]
    pairs = [ours - theirs for ours, theirs in zip(ensembles, best, strict=True)]
    return {"best": float(np.mean(best)), "ensemble": float(np.mean(ensembles))} | _difference(pairs)


def _difference(pairs: Sequence[np.ndarray]) -> dict:
    """The mean of paired differences of AP@100, one array [queries] per seed, and its intervals.

    Returns:
        {"difference": mean, "seeds": how many, "over_seeds": t-interval or None, "over_queries": bootstrap interval}.
    """
    return {
        "difference": float(np.mean(pairs)),
        "seeds": len(pairs),
        "over_seeds": t_interval([float(pair.mean()) for pair in pairs]),
        "over_queries": list(bootstrap_interval(np.mean(pairs, axis=0).tolist())),
    }
