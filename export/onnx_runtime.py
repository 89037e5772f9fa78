"""Runs ONNX files in ONNX Runtime, on the CPU: the project's only maker of its sessions."""

import os

import numpy as np
import onnx
import onnxruntime

_ERRORS_ONLY = 3
"""Log severity. Paddle's exporter leaves unused initializers, about each of which ONNX Runtime would print a warning."""


def session(model: onnx.ModelProto | str | os.PathLike) -> onnxruntime.InferenceSession:
    """A session of a model, or of the file that holds one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(running: onnxruntime.InferenceSession, images: np.ndarray) -> list[np.ndarray]:
    """Every output of a model with one input."""
    return list(running.run(None, {running.get_inputs()[0].name: images}))
