"""What the report shows of a ranking, as arrays: hits, scores, landmarks, and the relevant images that were missed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.data.landmarks import IndexLandmarks
from retrieval.metrics import CONTEST_K, find_right_hits
from retrieval.ranking import Ranking
from retrieval.solution import RetrievalSolution
from retrieval.viewer.landmark_numbers import landmark_numbers
from retrieval.viewer.similarities import Sides, similarities
from zoo.errors import DataError

HITS, MISSED = 10, 12
"""Hits and missed images that are shown of each query."""


@dataclass(frozen=True, eq=False)
class Results:
    """The scored queries of a ranking. Landmarks and images are numbers: places in `landmarks` and in `image_ids`.

    Attributes:
        query_ids: Q ids.
        image_ids: N ids of index images that are hits or missed, those that matter most first: the first hit of every query,
            the first image that each missed, the second hits and so on.
        landmarks: L names; two landmarks may have the same.
        query_landmarks: int32 [Q].
        image_landmarks: int32 [N]; -1: neither the tables nor the ground truth know one.
        hits: int32 [Q, H], images, nearest first; -1 behind the end of a short list.
        correct: bool [Q, H].
        distances, cosines: float32 [Q, H]; NaN if not known.
        precisions: float64 [Q], AP@100, from 0 to 1.
        found, relevant: int32 [Q], relevant images among the first 100 hits, and all of them.
        first: int32 [Q], rank of the first right hit from 1; 0 if there is none among the first 100.
        missed: Q lists of at most `MISSED` images.
        public: bool [Q], whether the query is of the solution's public part.
        ignored: test images that the solution does not score.
        searched: index images that were searched.
    """

    query_ids: Sequence[str]
    image_ids: Sequence[str]
    landmarks: Sequence[str]
    query_landmarks: np.ndarray
    image_landmarks: np.ndarray
    hits: np.ndarray
    correct: np.ndarray
    distances: np.ndarray
    cosines: np.ndarray
    precisions: np.ndarray
    found: np.ndarray
    relevant: np.ndarray
    first: np.ndarray
    missed: Sequence[Sequence[int]]
    public: np.ndarray
    ignored: int
    searched: int


def results(
    ranking: Ranking, solution: RetrievalSolution, landmarks: IndexLandmarks, sides: Sides | None = None
) -> Results:
    """The results of a solution's scored queries; one that the ranking lacks has no hits and scores 0.

    Args:
        ranking: hits of queries; those that are not scored are left out.
        solution: the ground truth.
        landmarks: of the index images; those that it does not name get the landmark of the queries that they are relevant to.
        sides: the descriptors; without them there are no cosines.

    Raises:
        DataError: the solution scores no query.
    """
    truth = solution.everything
    if not truth:
        raise DataError("the solution scores no query, so there is nothing to report. Check the solution file.")
    place = {query: row for row, query in enumerate(ranking.query_ids)}
    truth = dict(sorted(truth.items()))
    queries = list(truth)
    lists = [() if (row := place.get(query)) is None else ranking.hits[row][:CONTEST_K] for query in queries]
    right = find_right_hits(dict(zip(queries, lists, strict=True)), truth)
    first = right.positions()
    relevant = [dict.fromkeys(truth[query]) for query in queries]  # a solution may repeat an image
    missed = [_missed(hits, own) for hits, own in zip(lists, relevant, strict=True)]
    images = _by_priority([hits[:HITS] for hits in lists], missed)
    number = {image: place for place, image in enumerate(images)}
    distances, cosines = similarities(ranking, [place.get(query) for query in queries], HITS, sides)
    names, of_query, of_image = landmark_numbers(queries, images, truth, landmarks)
    return Results(
        query_ids=queries,
        image_ids=images,
        landmarks=names,
        query_landmarks=of_query,
        image_landmarks=of_image,
        hits=_padded([[number[image] for image in hits[:HITS]] for hits in lists], -1, np.int32),
        correct=_padded(
            [[image in own for image in hits[:HITS]] for hits, own in zip(lists, relevant, strict=True)], False, bool
        ),
        distances=distances,
        cosines=cosines,
        precisions=right.average_precisions(),
        found=np.bincount(right.queries, minlength=len(queries)).astype(np.int32),
        relevant=np.array([len(own) for own in relevant], np.int32),
        first=np.where(first > CONTEST_K, 0, first).astype(np.int32),
        missed=[[number[image] for image in found] for found in missed],
        public=np.array([query in solution.public for query in queries]),
        ignored=len(solution.ignored),
        searched=len(ranking.index_ids),
    )


def _missed(hits: Sequence[str], relevant: dict[str, None]) -> list[str]:
    """The first `MISSED` relevant images that are not among the hits."""
    found = set(hits)
    return [image for image in relevant if image not in found][:MISSED]


def _padded(lists: Sequence[Sequence], fill: object, kind: type) -> np.ndarray:
    """Lists of different lengths as an array [Q, HITS]."""
    array = np.full((len(lists), HITS), fill, kind)
    for row, values in enumerate(lists):
        array[row, : len(values)] = values
    return array


def _by_priority(hits: Sequence[Sequence[str]], missed: Sequence[Sequence[str]]) -> list[str]:
    """All images once: where not all can have a thumbnail, the first ones get it."""
    ordered: dict[str, None] = {}
    for rank in range(max(HITS, MISSED)):
        for images in (*hits, *missed):
            if rank < len(images):
                ordered[images[rank]] = None
    return list(ordered)
