"""Images in resized batches: threads read, decode and resize the next ones while a network computes the current one."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from retrieval.data.images import UnreadableImageError, decode, read_image
from retrieval.data.sources import ImageSource
from zoo.errors import DataError
from zoo.preprocess import resize
from zoo.specs import PreprocessSpec

BATCH_SIZE = 32
MOST_AT_ONCE = 4096
"""The largest batch; decoded images wait in memory until theirs is complete."""
BATCHES_AHEAD = 2
"""Batches that are decoded before they are needed: they hide decoding, and cost the memory of their pixels."""

Image = str | os.PathLike | np.ndarray | Callable[[], np.ndarray]
"""The path of an image file, or its pixels uint8 [H, W, 3], RGB, or what reads them."""


class Resized(NamedTuple):
    """How images are resized for a model: the side of the square in pixels, and the filter (`PreprocessSpec.resize`)."""

    size: int
    resize: str

    @classmethod
    def of(cls, spec: PreprocessSpec) -> "Resized":
        """What a spec asks for."""
        return cls(spec.size, spec.resize)


Batch = Mapping[Resized, np.ndarray]
"""The same N images for each way of resizing: float32 [N, size, size, 3], RGB, 0 to 255, not normalised."""


def batches(
    images: Sequence[Image],
    inputs: Sequence[Resized],
    batch_size: int,
    workers: int,
    unreadable: dict[int, str] | None = None,
) -> Iterator[Batch]:
    """The images in resized batches; while the consumer works on one, threads prepare the next `BATCHES_AHEAD`.

    Args:
        images: what to read.
        inputs: the ways of resizing.
        batch_size: images per batch; the last one may be smaller.
        workers: threads.
        unreadable: gets the place and the reason of each image that cannot be read, before its batch, where it is black. Without
            it, such an image is an error.
    """
    require_batch_size(batch_size)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    ahead: deque[tuple[int, list[Future]]] = deque()

    def stacked(first: int, futures: list[Future]) -> Batch:
        rows = []
        for place, future in enumerate(futures, first):
            try:
                rows.append(future.result())
            except UnreadableImageError as error:
                if unreadable is None:
                    raise
                unreadable[place] = error.reason
                rows.append([np.zeros((wanted.size, wanted.size, 3), np.float32) for wanted in inputs])
        return {wanted: np.stack(column) for wanted, column in zip(inputs, zip(*rows, strict=True), strict=True)}

    try:
        for start in range(0, len(images), batch_size):
            chosen = images[start : start + batch_size]
            ahead.append((start, [pool.submit(_resized, image, inputs) for image in chosen]))
            if len(ahead) > BATCHES_AHEAD:
                yield stacked(*ahead.popleft())
        while ahead:
            yield stacked(*ahead.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def require_batch_size(batch_size: int) -> int:
    if not 1 <= batch_size <= MOST_AT_ONCE:
        raise DataError(f"expected 1 to {MOST_AT_ONCE:,} images per batch, found {batch_size}")
    return batch_size


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Resizing is a product of matrices in each of several threads: threads of the BLAS beside them would fight for the processors."""
    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        yield


class StoredImages(Sequence[Callable[[], np.ndarray]]):
    """What reads the images of a data set, made when it is asked for: millions of ids take less memory than millions of paths."""

    def __init__(self, source: ImageSource, ids: Sequence[str]) -> None:
        self._source, self._ids = source, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, slice):
            return [self[row] for row in range(*chosen.indices(len(self)))]
        return partial(self._read, str(self._ids[chosen]))

    def _read(self, image_id: str) -> np.ndarray:
        return decode(self._source.read(image_id), self._source.place(image_id))


class ChosenImages(Sequence[Image]):
    """Some of the images of a sequence."""

    def __init__(self, images: Sequence[Image], rows: Sequence[int]) -> None:
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, slice):
            return [self._images[row] for row in self._rows[chosen]]
        return self._images[self._rows[chosen]]


def _resized(image: Image, inputs: Sequence[Resized]) -> list[np.ndarray]:
    if callable(image):
        pixels = image()
    else:
        pixels = _checked(image) if isinstance(image, np.ndarray) else read_image(Path(image))
    return [resize(pixels, *wanted) for wanted in inputs]


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            f"an image is {pixels.dtype} {list(pixels.shape)}; expected uint8 [height, width, 3], RGB. "
            "Pass a list of such arrays, or of paths."
        )
    return pixels
