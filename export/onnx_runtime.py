"""Runs ONNX files in ONNX Runtime, on the CPU: the project's only maker of its sessions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime

from zoo.errors import ExportError

_FATAL_ONLY = 4
"""Log severity. Errors are raised as well, and Paddle's exporter leaves unused initializers, each of which would be a warning."""


def session(model: onnx.ModelProto | str | os.PathLike) -> onnxruntime.InferenceSession:
    """A session of a model, or of the file that holds one.

    Raises:
        ExportError: ONNX Runtime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(model)
    with _refusals():
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(running: onnxruntime.InferenceSession, images: np.ndarray) -> list[np.ndarray]:
    """Every output of a model with one input; a model for single images gets them one at a time.

    Raises:
        ExportError: the model has no input or output, or cannot take such images.
    """
    with _refusals():
        [given, *_] = running.get_inputs()
        parts = np.split(images, len(images)) if given.shape[:1] == [1] and len(images) > 1 else [images]
        found = [running.run(None, {given.name: part}) for part in parts]
        return [np.concatenate(outputs) if len(parts) > 1 else outputs[0] for outputs in zip(*found, strict=True)]


@contextmanager
def _refusals() -> Iterator[None]:
    """Reports what ONNX Runtime raises; its own classes have no public base."""
    try:
        yield
    except Exception as error:
        raise ExportError(f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:400]}") from error
