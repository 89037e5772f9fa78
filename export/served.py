"""Calls a SavedModel of ours in today's TensorFlow, as a user would: from the disk, by its signatures."""

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from export.quiet import quiet_stderr
from zoo.errors import ExportError
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE, DESCRIPTOR, batch_input


@functools.lru_cache(maxsize=1)
def _load(folder: str, changed: int) -> Any:
    with quiet_stderr():
        import tensorflow as tf

        return tf.saved_model.load(folder)


def load(folder: str | os.PathLike) -> Any:
    """The loaded SavedModel; the last one is kept, as loading takes seconds.

    Raises:
        ExportError: not a SavedModel, or without one of the two signatures.
    """
    proto = Path(folder, "saved_model.pb")
    if not proto.is_file():
        raise ExportError(
            f"{folder} is not a SavedModel: it holds no saved_model.pb. Run `python export/to_savedmodel.py`."
        )
    loaded = _load(str(folder), proto.stat().st_mtime_ns)
    missing = {CONTEST_SIGNATURE, BATCH_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise ExportError(f"{folder} has no signature {sorted(missing)[0]!r}. Run `python export/to_savedmodel.py`.")
    return loaded


def batch_sizes(folder: str | os.PathLike) -> list[int]:
    """The resolutions, in pixels, that the batch signature wants images in."""
    inputs = load(folder).signatures[BATCH_SIGNATURE].structured_input_signature[1]
    return sorted(int(name.rpartition("_")[2]) for name in inputs)


def call_images(folder: str | os.PathLike, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Descriptors float32 [D] of uint8 [H, W, 3] images, one positional call each, as the contest's scorer makes it."""
    import tensorflow as tf

    function = load(folder).signatures[CONTEST_SIGNATURE]
    return {name: function(tf.convert_to_tensor(image))[DESCRIPTOR].numpy() for name, image in images.items()}


def call_batch(folder: str | os.PathLike, resized: dict[int, np.ndarray]) -> np.ndarray:
    """Descriptors float32 [N, D] of one batch, given in each resolution that the model wants."""
    import tensorflow as tf

    function = load(folder).signatures[BATCH_SIGNATURE]
    inputs = {batch_input(size): tf.convert_to_tensor(pixels) for size, pixels in resized.items()}
    return function(**inputs)[DESCRIPTOR].numpy()


def call_batches(folder: str | os.PathLike, size: int, batches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`call_batch` for a model of one resolution and several batches."""
    return {name: call_batch(folder, {size: pixels}) for name, pixels in batches.items()}
