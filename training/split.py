"""Holds out a part of the training classes, so that retrieval can be scored on landmarks that were not trained on."""

import numpy as np

from retrieval.data.gldv2 import TrainSet
from zoo.errors import DataError


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
