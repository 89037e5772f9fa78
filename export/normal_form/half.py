"""Rounds a normal form's convolution weights to float16's precision."""

import numpy as np
import onnx

from zoo.errors import ExportError


def rounded_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose convolution weights are rounded to float16's 11 bits.

    Raises:
        ExportError: a weight is beyond float16's largest number, 65504.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kernels = {node.input[1] for node in copy.graph.node if node.op_type == "Conv"}
    for tensor in copy.graph.initializer:
        if tensor.name in kernels:
            with np.errstate(over="ignore"):
                half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(half).all():
                raise ExportError(f"{tensor.name!r} has weights beyond float16; store it as float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(half.astype(np.float32), tensor.name))
    return copy
