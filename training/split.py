"""Holds out a part of the training classes, so that retrieval can be scored on landmarks that were not trained on."""

from dataclasses import dataclass

import numpy as np

from retrieval.data.gldv2 import TrainSet
from zoo.errors import DataError


@dataclass(frozen=True, eq=False)
class RetrievalSet:
    """Queries and an index of images with known classes.

    Attributes:
        queries, index: image ids; no image is in both.
        query_labels, index_labels: int64, the class of each; every query's class is in the index.
    """

    queries: tuple[str, ...]
    query_labels: np.ndarray
    index: tuple[str, ...]
    index_labels: np.ndarray


def split_by_class(train_set: TrainSet, share: float, seed: int) -> tuple[TrainSet, TrainSet]:
    """Splits a set by whole classes into one to train on and one that is held out.

    Only classes of at least two images are held out: one image would find nothing. Which ones depends on the seed and on how
    many such classes there are.

    Args:
        train_set: the labelled images.
        share: of the classes that can be held out, above 0 and below 1; at least one class is.
        seed: of the choice.

    Returns:
        The classes to train on and the held-out ones, each with its labels renumbered and images in the order of `train_set`.

    Raises:
        DataError: fewer than two classes have two images, or none would be left to train on.
    """
    counts = np.array(train_set.class_counts)
    possible = np.flatnonzero(counts >= 2)
    if len(possible) < 2:
        raise DataError(
            f"the training set has {len(possible)} classes of at least two images; expected at least two to hold some out. "
            "Train without a validation share."
        )
    count = min(max(1, round(share * len(possible))), len(possible) - 1)
    chosen = np.zeros(len(counts), bool)
    chosen[np.random.default_rng(seed).permutation(possible)[:count]] = True
    return _of_classes(train_set, ~chosen), _of_classes(train_set, chosen)


def queries_and_index(held_out: TrainSet, limit: int, seed: int) -> RetrievalSet:
    """One query per class, and the class's other images as the index.

    Args:
        held_out: the second set of `split_by_class`.
        limit: most images of queries and index together. Whole classes are taken, in random order, as long as they fit; of a class
            that is larger by itself, as many images as fit.
        seed: of the choice.

    Raises:
        DataError: the limit is below two, or no class has two images.
    """
    if limit < 2:
        raise DataError(f"expected a limit of at least two images, a query and what it should find, found {limit}")
    rng = np.random.default_rng(seed)
    images = rng.permutation(len(held_out.ids))
    labels = held_out.labels[images]
    order = np.argsort(labels, kind="stable")
    of_class = np.split(images[order], np.cumsum(held_out.class_counts)[:-1])
    queries: list[int] = []
    index: list[int] = []
    for label in rng.permutation(len(of_class)):
        room = limit - len(queries) - len(index)
        own = of_class[label]
        if len(own) < 2 or (len(own) > room and queries):
            continue
        queries.append(int(own[0]))
        index.extend(own[1:room].tolist())
    if not queries:
        raise DataError("no held-out class has two images; expected at least one. Train without a validation share.")
    return RetrievalSet(
        queries=tuple(held_out.ids[number] for number in queries),
        query_labels=held_out.labels[queries],
        index=tuple(held_out.ids[number] for number in index),
        index_labels=held_out.labels[index],
    )


def _of_classes(train_set: TrainSet, wanted: np.ndarray) -> TrainSet:
    """The part of a set whose classes are wanted: bool, one per class."""
    kept = np.flatnonzero(wanted[train_set.labels])
    renumbered = np.cumsum(wanted) - 1
    return TrainSet(
        ids=tuple(train_set.ids[number] for number in kept),
        labels=renumbered[train_set.labels[kept]],
        landmark_ids=tuple(
            landmark for landmark, is_wanted in zip(train_set.landmark_ids, wanted, strict=True) if is_wanted
        ),
    )
