"""Scores by landmark, and which landmarks are taken for which others."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from retrieval.viewer.results import Results


@dataclass(frozen=True)
class LandmarkScore:
    """The queries of one landmark: how many, their mAP@100, and the relevant images found and to be found, added up."""

    landmark: int
    queries: int
    precision: float
    found: int
    relevant: int


@dataclass(frozen=True)
class Confusion:
    """Queries of `landmark` that have images of the landmark `taken_for` among their shown hits.

    Attributes:
        landmark, taken_for: numbers of landmarks.
        queries: how many such queries.
        hits: how many such hits.
    """

    landmark: int
    taken_for: int
    queries: int
    hits: int


def landmark_scores(results: Results) -> list[LandmarkScore]:
    """One row per landmark with queries, the worst first; of equal ones, that with more queries."""
    rows = []
    for landmark in np.unique(results.query_landmarks):
        own = np.flatnonzero(results.query_landmarks == landmark)
        rows.append(
            LandmarkScore(
                int(landmark),
                len(own),
                float(results.precisions[own].mean()),
                int(results.found[own].sum()),
                int(results.relevant[own].sum()),
            )
        )
    return sorted(rows, key=lambda row: (row.precision, -row.queries, row.landmark))


def confusions(results: Results) -> list[Confusion]:
    """Pairs of landmarks, those with most wrong hits first. Images whose landmark is not known are left out."""
    hits: dict[tuple[int, int], int] = defaultdict(int)
    queries: dict[tuple[int, int], set[int]] = defaultdict(set)
    for query, place in np.argwhere((results.hits >= 0) & ~results.correct):
        taken_for = int(results.image_landmarks[results.hits[query, place]])
        landmark = int(results.query_landmarks[query])
        if taken_for >= 0 and taken_for != landmark:
            hits[landmark, taken_for] += 1
            queries[landmark, taken_for].add(int(query))
    rows = [Confusion(*pair, len(queries[pair]), count) for pair, count in hits.items()]
    return sorted(rows, key=lambda row: (-row.hits, -row.queries, row.landmark, row.taken_for))
