"""Augmented training batches as a function of (seed, epoch, position)."""

import dataclasses
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np

from retrieval.data.gldv2 import Gldv2, TrainSet
from retrieval.data.images import UnreadableImageError
from retrieval.data.sources import open_source
from training.augment import Box, augment, random_box
from training.images import read_crop
from training.recipes import Augmentation
from zoo.command import log
from zoo.errors import DataError

PREFETCHED_BATCHES = 3
IMAGES_AT_ONCE = 4
"""Images that a thread decodes before it takes the next ones; handing over single small ones would cost a tenth of their time."""
DAMAGED_SHARE, DAMAGED_COUNT = 0.01, 10
"""Training stops if more images than this share of the set, and than this number, cannot be read."""
SHOWN = 5

Batch = tuple[np.ndarray, np.ndarray]


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


class TrainingImages:
    """The batches of a training, or one process's share of them.

    Order and augmentation depend only on (seed, epoch, position in the epoch). A resumed run therefore sees the same bytes as
    an uninterrupted one, and the shares of any number of processes are, one after another, the batch of a single process.

    An image that cannot be read is replaced by the one at the next position of the epoch, and is logged once.

    Args:
        dataset: where the images are, as files or in tars.
        train_set: the images and their classes.
        batch_size: images per batch, over all processes.
        seed: of order and augmentation.
        augmentation: random changes of the images.
        sampling: "images": every image once per epoch. "classes": every class equally often (±1), with its images in rotation; an
            epoch has as many batches.
        rank: number of this process.
        processes: how many processes share a batch.
        workers: threads that decode ahead.

    Attributes:
        batches_per_epoch: an incomplete last batch is dropped.
        damaged: reason by place of every image that this process has replaced so far.

    Raises:
        DataError: the set is smaller than one batch, a batch cannot be shared equally, or a tar cannot be used.
    """

    def __init__(
        self,
        dataset: Gldv2,
        train_set: TrainSet,
        *,
        batch_size: int,
        seed: int,
        augmentation: Augmentation,
        sampling: Literal["images", "classes"] = "images",
        rank: int = 0,
        processes: int = 1,
        workers: int = 2,
    ) -> None:
        if batch_size % processes:
            raise DataError(
                f"batch_size is {batch_size}, and {processes} processes share a batch; expected a multiple of {processes}. "
                "Change batch_size in the recipe or the number of processes."
            )
        self.batches_per_epoch = batches_per_epoch(train_set, batch_size)
        self.damaged: dict[str, str] = {}
        self._root, self._set, self._batch_size, self._seed = dataset.root, train_set, batch_size, seed
        self._share = slice(rank * batch_size // processes, (rank + 1) * batch_size // processes)
        self._workers, self._source = workers, open_source(dataset, "train", progress=rank == 0)
        self._changes = dataclasses.asdict(augmentation)
        self._crop_area = self._changes.pop("crop_area")
        self._rotation = _Rotation(train_set.labels, self._generator()) if sampling == "classes" else None
        self._guard = threading.Lock()

    def batches(self, epoch: int, size: int, start: int = 0) -> Iterator[Batch]:
        """This process's shares of an epoch's batches from number `start` on.

        Args:
            epoch: from 0.
            size: side of the images in pixels.
            start: number of the first batch.

        Yields:
            Images uint8 [batch_size / processes, size, size, 3] and class indices int64 [batch_size / processes].

        Raises:
            DataError: `start` is outside the epoch; while iterating, too many images cannot be read.
        """
        count = self.batches_per_epoch
        if not 0 <= start <= count:
            raise DataError(
                f"batch {start} was requested, but the epoch has {count} batches of {self._batch_size}. "
                "If the data set has changed since training started, remove the state and start again."
            )
        return self._batches(epoch, size, start)

    def files(self, epoch: int, batch: int) -> list[str]:
        """Where the images of a batch are, those of all processes, for messages; without those known to be damaged."""
        order, positions = self._order(epoch), range(batch * self._batch_size, (batch + 1) * self._batch_size)
        return [next(self._readable(order, position), "no readable image") for position in positions]

    def _batches(self, epoch: int, size: int, start: int) -> Iterator[Batch]:
        order = self._order(epoch)
        # The threads only ever run submitted work, never wait for the consumer: nothing can be left blocked.
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="training-batches")
        ahead: deque[tuple[Batch, list[Future[None]]]] = deque()

        def submit(number: int) -> tuple[Batch, list[Future[None]]]:
            positions = range(number * self._batch_size, (number + 1) * self._batch_size)[self._share]
            batch = np.empty((len(positions), size, size, 3), np.uint8), np.empty(len(positions), np.int64)
            rows = (slice(first, first + IMAGES_AT_ONCE) for first in range(0, len(positions), IMAGES_AT_ONCE))
            return batch, [pool.submit(self._fill, batch, part, order, epoch, positions[part]) for part in rows]

        try:
            for number in range(start, self.batches_per_epoch):
                ahead.append(submit(number))
                if len(ahead) > PREFETCHED_BATCHES:
                    yield _finished(*ahead.popleft())
            while ahead:
                yield _finished(*ahead.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self, batch: Batch, rows: slice, order: np.ndarray, epoch: int, positions: range) -> None:
        """Writes the images at some positions of an epoch into rows of a batch."""
        images, labels = batch
        for row, position in enumerate(positions, start=rows.start):
            images[row], labels[row] = self._load(order, epoch, position, images.shape[1])

    def _load(self, order: np.ndarray, epoch: int, position: int, size: int) -> tuple[np.ndarray, int]:
        """The image at a position of an epoch, or the next one that can be read, and its class index."""
        for number in _from(order, position):
            image_id, rng = self._set.ids[number], self._generator(epoch, position)
            place = self._source.place(image_id)

            def choose(width: int, height: int, rng: np.random.Generator = rng) -> Box:
                return random_box(width, height, rng, self._crop_area)

            try:
                crop = read_crop(self._source.read(image_id), place, size, choose)
            except UnreadableImageError as error:
                self._note(place, error.reason)
                continue
            return augment(crop, rng, **self._changes), int(self._set.labels[number])
        raise self._too_many()

    def _readable(self, order: np.ndarray, position: int) -> Iterator[str]:
        """Where the images are that a position may have, without those that have been found damaged."""
        places = (self._source.place(self._set.ids[number]) for number in _from(order, position))
        return (place for place in places if place not in self.damaged)

    def _order(self, epoch: int) -> np.ndarray:
        """Numbers of an epoch's images, int64."""
        if self._rotation:
            return self._rotation.order(epoch, self.batches_per_epoch * self._batch_size, self._generator(epoch))
        return self._generator(epoch).permutation(len(self._set.ids))

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))

    def _note(self, place: str, reason: str) -> None:
        """Counts an image that cannot be read.

        Raises:
            DataError: they are too many.
        """
        with self._guard:
            if place in self.damaged:
                return
            self.damaged[place] = reason
            if len(self.damaged) > max(DAMAGED_COUNT, DAMAGED_SHARE * len(self._set.ids)):
                raise self._too_many()
        log(f"{place}: {reason}; the epoch's next image takes its place")

    def _too_many(self) -> DataError:
        shown = "; ".join(f"{place}: {reason}" for place, reason in list(self.damaged.items())[:SHOWN])
        return DataError(
            f"{len(self.damaged)} of {len(self._set.ids)} training images cannot be read, too many to replace: {shown}"
            f"{'; …' if len(self.damaged) > SHOWN else ''}. Run `python -m retrieval.data.check --data {self._root}`: training "
            "leaves out what it lists."
        )


class _Rotation:
    """Class-balanced orders: rounds of all classes, each in random order; a class shows its images in rotation.

    Args:
        labels: int64 [n], the class of each image. Classes without an image are left out.
        generator: shuffles the images of each class.
    """

    def __init__(self, labels: np.ndarray, generator: np.random.Generator) -> None:
        # One sort of unique numbers is twice as fast as a stable sort of shuffled labels.
        self._by_class = np.argsort(labels * len(labels) + generator.permutation(len(labels)))
        counts = np.bincount(labels)
        self._first, self._counts = (np.cumsum(counts) - counts)[counts > 0], counts[counts > 0]

    def order(self, epoch: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Numbers of the images of an epoch, int64 [length]."""
        classes = len(self._counts)
        whole, rest = divmod(length, classes)
        # Which classes the last, incomplete round has goes around too, so that it is known how often each has been shown.
        last = generator.permutation((epoch * rest + np.arange(rest)) % classes)
        rounds = generator.permuted(np.tile(np.arange(classes), (whole, 1)), axis=1)
        chosen = np.concatenate([rounds.reshape(-1), last])
        before = epoch * whole + (epoch * rest + classes - 1 - np.arange(classes)) // classes
        shown = before[chosen] + np.arange(length) // classes
        return self._by_class[self._first[chosen] + shown % self._counts[chosen]]


def _from(order: np.ndarray, position: int) -> Iterator[int]:
    """An order from a position on, once around."""
    return (int(order[(position + later) % len(order)]) for later in range(len(order)))


def _finished(batch: Batch, parts: list[Future[None]]) -> Batch:
    for part in parts:
        part.result()
    return batch
