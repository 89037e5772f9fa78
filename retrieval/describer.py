"""What turns images into descriptors: a `Describer` is a PyTorch or a Paddle network, an ONNX file or a SavedModel."""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from tqdm import tqdm

from retrieval.embeddings import require_descriptors
from retrieval.image_batches import BATCH_SIZE, Batch, Image, Resized, batches, one_blas_thread
from zoo import checkpoint as checkpoints
from zoo.checkpoint import Checkpoint
from zoo.errors import DataError


class Describer(Protocol):
    """Turns resized images into descriptors.

    Attributes:
        inputs: the ways of resizing that it needs: one, or several for an ensemble.
        source: JSON values for `Embeddings.source`: model, framework, size and, if known, the checkpoint's sha256 and the specs.
    """

    @property
    def inputs(self) -> tuple[Resized, ...]: ...
    @property
    def source(self) -> dict: ...
    def __call__(self, batch: Batch) -> np.ndarray:
        """Descriptors float32 [N, D] of a batch that has all `inputs`."""
        ...


def describe(
    describer: Describer,
    images: Sequence[Image],
    *,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    progress: str | None = None,
) -> np.ndarray:
    """Descriptors of images, in their order.

    Args:
        describer: the model.
        images: paths, or arrays uint8 [H, W, 3].
        batch_size: images per call of the model.
        workers: threads that decode and resize; by default one per processor.
        progress: label of a progress bar on stderr; None shows none.

    Returns:
        float32 [number of images, D].

    Raises:
        DataError: there are no images, one of them is neither a path nor a uint8 RGB array, or a descriptor is not finite or
            all zeros; the message counts images from 0.
        UnreadableImageError: a file is missing or cannot be decoded.
    """
    if not len(images):
        raise DataError("there are no images to embed; expected at least one.")
    rows = []
    with one_blas_thread(), tqdm(total=len(images), desc=progress, unit="image", disable=progress is None) as bar:
        for batch in batches(images, describer.inputs, batch_size, workers or os.cpu_count() or 1):
            count = sum(map(len, rows))
            rows.append(describer(batch))
            require_descriptors(rows[-1], range(count, len(images)))
            bar.update(len(rows[-1]))
    return np.concatenate(rows)


def checkpoint_source(checkpoint: Checkpoint, framework: str) -> dict:
    """`Describer.source` of a checkpoint that a framework computes."""
    size = checkpoint.spec.preprocess.size
    return {
        "model": checkpoint.spec.name,
        "framework": framework,
        "size": size,
        "checkpoint": checkpoints.fingerprint(checkpoint),
        "specs": [checkpoint.spec.to_dict()],
    }
