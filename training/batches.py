"""Augmented training batches as a function of (seed, epoch, position)."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from retrieval.data.gldv2 import Gldv2, TrainSet
from retrieval.data.images import UnreadableImageError
from training.augment import augment, random_box
from training.images import read_crop
from zoo.errors import DataError

PREFETCHED_BATCHES = 3


def batches_per_epoch(train_set: TrainSet, batch_size: int) -> int:
    """The number of batches per epoch; an incomplete last batch is dropped.

    Raises:
        DataError: the set is smaller than one batch.
    """
    if len(train_set.ids) < batch_size:
        raise DataError(
            f"the training set has {len(train_set.ids)} readable images; expected at least batch_size, {batch_size}. "
            "Lower batch_size in the recipe, or see the data set's unreadable.csv."
        )
    return len(train_set.ids) // batch_size


def training_batches(
    root: Path,
    train_set: TrainSet,
    *,
    batch_size: int,
    size: int,
    seed: int,
    epoch: int,
    crop_area: tuple[float, float],
    flip: bool,
    jitter: float,
    start: int = 0,
    workers: int = 2,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of an epoch from number `start` on; `workers` threads decode them ahead.

    Order and augmentation depend only on (seed, epoch, position in the epoch). A run resumed at batch `start` therefore
    sees the same bytes as an uninterrupted one, with any number of workers.

    Yields:
        Images uint8 [batch_size, size, size, 3] and class indices int64 [batch_size].

    Raises:
        DataError: the set is smaller than one batch, or `start` is outside the epoch; while iterating
            (`UnreadableImageError`), an image cannot be read.
    """
    count = batches_per_epoch(train_set, batch_size)
    if not 0 <= start <= count:
        raise DataError(
            f"batch {start} was requested, but the epoch has {count} batches of {batch_size}. "
            "If the data set has changed since training started, remove the state and start again."
        )
    dataset = Gldv2(root)

    def generator(*key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, *key)))

    order = generator().permutation(len(train_set.ids))

    def load(position: int) -> np.ndarray:
        path, rng = dataset.image_path("train", train_set.ids[order[position]]), generator(position)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise UnreadableImageError(path, "no such file") from None
        crop = read_crop(data, str(path), size, lambda width, height: random_box(width, height, rng, crop_area))
        return augment(crop, rng, flip=flip, jitter=jitter)

    def collect(images: list[Future], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([image.result() for image in images]), labels

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # The threads only ever run submitted work, never wait for the consumer: nothing can be left blocked.
        pool = ThreadPoolExecutor(workers, thread_name_prefix="training-batches")
        ahead: deque = deque()
        try:
            for number in range(start, count):
                chosen = slice(number * batch_size, (number + 1) * batch_size)
                images = [pool.submit(load, position) for position in range(chosen.start, chosen.stop)]
                ahead.append((images, train_set.labels[order[chosen]]))
                if len(ahead) > PREFETCHED_BATCHES:
                    yield collect(*ahead.popleft())
            while ahead:
                yield collect(*ahead.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    return batches()
