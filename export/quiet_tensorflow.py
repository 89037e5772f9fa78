"""Imports the current TensorFlow without its log on the terminal and without taking any GPU's memory.

Writing a graph, and checking one, needs no GPU; TensorFlow would reserve nearly all memory of each one it sees.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from zoo.errors import MissingToolError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def import_tensorflow() -> Any:
    """The module `tensorflow`, with all GPUs hidden from it.

    If the process has already initialised TensorFlow's devices, they stay as they are.

    Raises:
        MissingToolError: TensorFlow is not installed.
    """
    with quiet_stderr():
        try:
            import tensorflow as tf
        except ImportError as error:
            raise MissingToolError(
                f"TensorFlow cannot be imported ({error}). Install it with `pip install 'landmark-zoo[export]'`."
            ) from error
        with suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
        tf.config.list_logical_devices()  # TensorFlow prints its complaint about missing GPUs here, not later
    return tf


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discards what C++ code writes to stderr; Python exceptions are unaffected.

    TensorFlow reports missing CUDA libraries on import whatever TF_CPP_MIN_LOG_LEVEL is, because it logs before its
    logging is set up.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
