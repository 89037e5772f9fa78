"""Opens ONNX files: the project's only door for them. What a file claims is checked before anything is computed from it."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from zoo.errors import ExportError
from zoo.limits import AXES, GRAPH_NODES, require_at_most

LARGEST = (1 << 31) - 1
"""protobuf's limit, in bytes."""
ADVICE = (
    "Make one with `python export/to_savedmodel.py --ckpt … --out …`, which writes a SavedModel and two ONNX files."
)
_DOMAINS = {"", "ai.onnx", "com.microsoft"}
"""ONNX's own operators and those of ONNX Runtime, which quantised files have."""
_SPREADING = {"ConstantOfShape", "Tile", "Range", "Resize", "Upsample", "OneHot", "Loop", "Scan", "If", "NonZero"}
"""Operators with which a small file can ask for a large tensor, and which no export has."""
_BY_CONSTANT = {"Expand", "Pad"}
"""Operators of exports whose second input, a constant, decides how large their output is."""


def read_onnx(path: str | os.PathLike) -> onnx.ModelProto:
    """The model in an ONNX file of the kind that this project writes: one graph of convolutions, with its weights inside.

    Raises:
        ExportError: the file is missing, is not ONNX, is damaged, keeps weights in other files, or has operators, types or sizes
            that no export has.
    """
    path = Path(path)
    if not path.is_file():
        raise ExportError(f"{path} does not exist; expected an ONNX file. {ADVICE}")
    require_at_most(LARGEST, path.stat().st_size, "bytes", path, ExportError)
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
        if not model.graph.node:
            raise ExportError("it has no nodes")
        _check(model)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ExportError, ValueError, OSError) as error:
        what = (
            "other bytes, or a part of a file" if isinstance(error, DecodeError) else " ".join(str(error).split())[:400]
        )
        raise ExportError(f"{path} is not a usable ONNX file: {what.rstrip('.')}. {ADVICE}") from error
    return model


def _check(model: onnx.ModelProto) -> None:
    graph = model.graph
    require_at_most(GRAPH_NODES, len(graph.node), "nodes", "its graph", ExportError)
    if model.functions or len(model.graph.sparse_initializer):
        raise ExportError("it has functions or sparse weights, which no export has")
    for node in graph.node:
        if node.domain not in _DOMAINS:
            raise ExportError(f"it has an operator of {node.domain!r}; expected those of ONNX and of ONNX Runtime only")
        if node.op_type in _SPREADING:
            raise ExportError(f"it has the operator {node.op_type}, which no export has")
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) or attribute.HasField("g"):
                raise ExportError(f"its node {node.name!r} contains a graph, which no export has")
            for tensor in [attribute.t, *attribute.tensors] if attribute.HasField("t") or attribute.tensors else ():
                _check_tensor(tensor, f"a constant of {node.name!r}")
    for tensor in graph.initializer:
        _check_tensor(tensor, f"the weight {tensor.name!r}")
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type in _BY_CONSTANT:
            _check_lengths(node, constants)
    for value in (*graph.input, *graph.output, *graph.value_info):
        axes = value.type.tensor_type.shape.dim
        require_at_most(AXES, len(axes), "axes", f"{value.name!r}", ExportError)
        if any(axis.HasField("dim_value") and not 0 <= axis.dim_value <= _LONGEST for axis in axes):
            raise ExportError(f"{value.name!r} has an axis that is negative or longer than {_LONGEST:,}")


_LONGEST = 1 << 24
"""Length of an axis."""
_EXPANDED = 1 << 24
"""Values of a tensor that is made by repeating another one."""


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constants by the names under which nodes read them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.output and node.input and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _check_lengths(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> None:
    what = f"the second input of {node.op_type} {node.name!r}"
    for tensor in [constants.get(name) for name in node.input[1:2]]:
        if tensor is None or tensor.data_type != onnx.TensorProto.INT64:
            raise ExportError(f"{what} is not a constant of integers, as in every export")
        _check_size(onnx.numpy_helper.to_array(tensor).reshape(-1).tolist(), what, _EXPANDED)


def _check_tensor(tensor: onnx.TensorProto, what: str) -> None:
    """Raises `ExportError` unless a tensor has as many bytes as its shape says, in the file itself."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ExportError(
            f"{what} is kept in another file; expected all weights in one file (`onnx.save_model` makes one)"
        )
    require_at_most(AXES, len(tensor.dims), "axes", what, ExportError)
    _check_size(tensor.dims, what, LARGEST)
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise ExportError(f"{what} is damaged: {error}") from error
    if array.size != math.prod(tensor.dims):
        raise ExportError(f"{what} has {array.size} values, expected {list(tensor.dims)}")


def _check_size(shape: Iterable[float], what: str, limit: int) -> None:
    shape = list(shape)
    if any(length < -1 for length in shape) or math.prod(max(1, int(length)) for length in shape) > limit:
        raise ExportError(f"{what} has the shape {shape[:AXES]}, which is negative or has more than {limit:,} values")
