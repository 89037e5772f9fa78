"""Runs ONNX files in ONNX Runtime, on the CPU: the project's only maker of its sessions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime

from zoo.errors import ExportError

_ERRORS_ONLY = 3
"""Log severity. Paddle's exporter leaves unused initializers, about each of which ONNX Runtime would print a warning."""


def session(model: onnx.ModelProto | str | os.PathLike) -> onnxruntime.InferenceSession:
    """A session of a model, or of the file that holds one.

    Raises:
        ExportError: ONNX Runtime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(model)
    with _refusals():
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(running: onnxruntime.InferenceSession, images: np.ndarray) -> list[np.ndarray]:
    """Every output of a model with one input.

    Raises:
        ExportError: the model has no input or output, or cannot take such images.
    """
    with _refusals():
        return list(running.run(None, {running.get_inputs()[0].name: images}))


@contextmanager
def _refusals() -> Iterator[None]:
    """Reports what ONNX Runtime raises; its own classes have no public base."""
    try:
        yield
    except Exception as error:
        raise ExportError(f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:400]}") from error
