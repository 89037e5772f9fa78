"""Calls a SavedModel of ours in today's TensorFlow, as a user would: from the disk, by its signatures."""

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from export.quiet_tensorflow import quiet_stderr
from zoo.errors import ExportError
from zoo.signature import BATCH_SIGNATURE, CONTEST_SIGNATURE, DESCRIPTOR


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


def batch_inputs(folder: str | os.PathLike) -> list[str]:
    """The inputs of the batch signature, one for each resolution that it wants images in (`read_batch_input`)."""
    return sorted(load(folder).signatures[BATCH_SIGNATURE].structured_input_signature[1])


def call_batch(folder: str | os.PathLike, resized: dict[str, np.ndarray]) -> np.ndarray:
    """Descriptors float32 [N, D] of one batch, given under each input's name."""
    import tensorflow as tf

    function = load(folder).signatures[BATCH_SIGNATURE]
    inputs = {name: tf.convert_to_tensor(pixels) for name, pixels in resized.items()}
    return function(**inputs)[DESCRIPTOR].numpy()
