"""The metrics of Revisited Oxford and Paris. They are not the contest's: AP is a trapezoid under the curve, of the whole ranking.

Source: the authors' evaluation (https://github.com/filipradenovic/revisitop, evaluate.py) and section 4.2 of the paper.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KAPPAS = (1, 5, 10)
"""Ranks at which precision is reported."""


@dataclass(frozen=True)
class Protocol:
    """Which lists of a query count as right, and which images are taken out of the ranking before ranks are counted."""

    positive: tuple[str, ...]
    junk: tuple[str, ...]


PROTOCOLS = {
    "easy": Protocol(("easy",), ("junk", "hard")),
    "medium": Protocol(("easy", "hard"), ("junk",)),
    "hard": Protocol(("hard",), ("junk", "easy")),
}


def ranks_of(positions: np.ndarray, positive: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """Ranks of the positive images once the junk has been removed, from 0, int64 ascending.

    Args:
        positions: int [N], the place of each image in the ranking of all N, from 0.
        positive, junk: int, numbers of images; none is in both.
    """
    places = np.sort(positions[positive])
    return places - np.searchsorted(np.sort(positions[junk]), places)


def average_precision(ranks: np.ndarray) -> float:
    """AP by the trapezoidal rule: the mean over the positives of the precision just before and at each of them.

    Args:
        ranks: int [at least 1], of all positives, from 0, ascending. The precision before rank 0 is 1.
    """
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    return float(np.mean((before + (found + 1) / (ranks + 1)) / 2))


def precision_at(ranks: np.ndarray, k: int) -> float:
    """Precision among the first min(k, rank of the last positive from 1); so that a query with few positives can reach 1."""
    counted = min(k, int(ranks[-1]) + 1)
    return int(np.sum(ranks < counted)) / counted


def score(
    positions: Iterable[np.ndarray], lists: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, dict[str, float | int | None]]:
    """The metrics of each protocol; queries without a positive image are left out of its means.

    Args:
        positions: per query, as in `ranks_of`.
        lists: per query, numbers of the images that are "easy", "hard" and "junk".

    Returns:
        {protocol: {"map", "precision_1", "precision_5", "precision_10", "queries"}}; means are None without any query.
    """
    figures: dict[str, dict[str, float | int | None]] = {}
    for name, protocol in PROTOCOLS.items():
        ranks = []
        for places, own in zip(positions, lists, strict=True):
            positive, junk = (
                np.concatenate([own[kind] for kind in kinds]) for kinds in (protocol.positive, protocol.junk)
            )
            if len(positive):
                ranks.append(ranks_of(places, positive, junk))
        means = {"map": [average_precision(r) for r in ranks]}
        means |= {f"precision_{k}": [precision_at(r, k) for r in ranks] for k in KAPPAS}
        figures[name] = {key: float(np.mean(values)) if values else None for key, values in means.items()}
        figures[name]["queries"] = len(ranks)
    return figures
