"""Keeps TensorFlow's C++ chatter off the terminal, where a user looks for progress and errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends what C++ writes to stderr to nowhere; Python's exceptions pass through as ever.

    TensorFlow announces on import that it finds no CUDA, whatever TF_CPP_MIN_LOG_LEVEL says, because it logs before its
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
