"""mAP@100 during training, on a small retrieval set of classes that are not trained."""

from collections.abc import Callable

import numpy as np

from retrieval.data.gldv2 import TrainSet
from retrieval.data.images import UnreadableImageError
from zoo.errors import RecipeError
from zoo.preprocess import network_input
from zoo.specs import PreprocessSpec

RANKED = 100
_AT_ONCE = 32
"""Images that are embedded together."""
_ROWS = 256
"""Queries that are ranked together."""

Embed = Callable[[np.ndarray], np.ndarray]


class ValidationSet:
    """Held-out images, each of which is searched for among all others.

    Args:
        held_out: the images of the held-out classes.
        limit: at most so many are used, whole classes in the order of the set.
        read: an image uint8 [H, W, 3] by its id.

    Raises:
        RecipeError: it has fewer than two images.
    """

    def __init__(self, held_out: TrainSet, limit: int, read: Callable[[str], np.ndarray]) -> None:
        order = np.argsort(held_out.labels, kind="stable")
        kept = order[np.isin(held_out.labels[order], _first_classes(held_out, limit))]
        if len(kept) < 2:
            raise RecipeError(
                "validation.classes: no class with at least 2 images is held out, so nothing can be measured. Raise the share, or "
                "leave `validation` out."
            )
        self.ids = [held_out.ids[index] for index in kept]
        self.labels = held_out.labels[kept]
        self._read = read

    def embed(self, embed: Embed, spec: PreprocessSpec, rank: int = 0, processes: int = 1) -> np.ndarray:
        """Descriptors float32 [M, D] of a process's images: every `processes`-th one, from `rank` on.

        Images that cannot be read get zeros, and so are found by nothing.

        Args:
            embed: float32 [N, 3, S, S] → descriptors float32 [N, D].
            spec: how images are resized and normalised.
            rank: of the process.
            processes: their number.
        """
        own = self.ids[rank::processes]
        made = []
        for start in range(0, len(own), _AT_ONCE):
            images = [self._input(image_id, spec) for image_id in own[start : start + _AT_ONCE]]
            made.append(embed(np.concatenate(images)))
        return np.concatenate(made) if made else np.zeros((0, 1), np.float32)

    def _input(self, image_id: str, spec: PreprocessSpec) -> np.ndarray:
        try:
            return network_input(self._read(image_id), spec)
        except UnreadableImageError:
            return np.zeros((1, 3, spec.size, spec.size), np.float32)

    def score(self, parts: list[np.ndarray]) -> float:
        """mAP@100 of the descriptors that each process made."""
        descriptors = np.zeros((len(self.ids), max(part.shape[1] for part in parts)), np.float32)
        for rank, part in enumerate(parts):
            descriptors[rank :: len(parts)] = part
        return mean_average_precision_of_classes(descriptors, self.labels)


def mean_average_precision_of_classes(descriptors: np.ndarray, labels: np.ndarray, k: int = RANKED) -> float:
    """mAP@K where each image is a query, all other images are the index, and those of its class are relevant.

    Args:
        descriptors: float [N, D], compared by Euclidean distance.
        labels: int64 [N]; a class has at least two images.
        k: ranks that count.

    Returns:
        The mean over the queries of `retrieval.metrics.average_precision`, whose sum over the right hits is divided by
        min(relevant, K).
    """
    relevant = np.bincount(labels)[labels] - 1
    squares = (descriptors * descriptors).sum(axis=1)
    scores = []
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = squares[None] - 2 * descriptors[rows] @ descriptors.T
        distances[np.arange(len(distances)), np.arange(start, start + len(distances))] = np.inf
        ranking = np.argsort(distances, axis=1, kind="stable")[:, : min(k, len(labels) - 1)]
        right = labels[ranking] == labels[rows, None]
        precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
        scores.append((precision * right).sum(axis=1) / np.minimum(relevant[rows], k))
    return float(np.concatenate(scores).mean())


def _first_classes(held_out: TrainSet, limit: int) -> np.ndarray:
    """Classes in ascending order until their images reach the limit, at least one."""
    counts = np.bincount(held_out.labels)
    classes = np.flatnonzero(counts >= 2)
    fitting = np.cumsum(counts[classes]) <= limit
    return classes[: max(1, int(fitting.sum()))]
