"""Landmarks of queries and images as numbers, from a data set's tables or, without them, from the ground truth."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from retrieval.data.landmarks import IndexLandmarks


def landmark_numbers(
    queries: Sequence[str], images: Sequence[str], truth: Mapping[str, Sequence[str]], table: IndexLandmarks
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The landmarks of queries and of index images, as numbers.

    Args:
        queries, images: Q ids of queries and N of index images.
        truth: query id → its relevant index images.
        table: landmarks by image. Images that it does not name get a landmark by the ground truth: the images of a query, and
            of queries that share images, are one "group". A query has the landmark of most of its relevant images.

    Returns:
        The names of L landmarks, and the landmark of each query int32 [Q] and of each image int32 [N], where -1 is none.
    """
    groups = _groups(truth)
    numbers: dict[Hashable, int] = {}
    names: list[str] = []

    def number(image: str) -> int:
        known = table.of_image.get(image)
        key = ("landmark", known) if known is not None else groups.get(image)
        if key is None:
            return -1
        if key not in numbers:
            numbers[key] = len(names)
            names.append(table.name(known) if known is not None else f"group {len(names) + 1}")
        return numbers[key]

    of_query = [Counter(map(number, truth[query])).most_common(1)[0][0] for query in queries]
    return names, np.array(of_query, np.int32), np.array([number(image) for image in images], np.int32)


def _groups(truth: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Relevant image → the first image of its group: images of one query, and of queries that share images, are one."""
    parent: dict[str, str] = {}

    def root(image: str) -> str:
        while parent.setdefault(image, image) != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    for relevant in truth.values():
        for image in relevant:
            parent[root(image)] = root(relevant[0])
    return {image: root(image) for image in parent}
