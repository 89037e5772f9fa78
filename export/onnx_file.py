"""Opens ONNX files: the project's only door for them. What a file claims is checked before anything is computed from it."""

import math
import os
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from export.onnx_metadata import is_imported
from export.onnx_parts import inlined, read_weights
from export.onnx_sizes import OF_INPUT, VALUES, require_known_sizes
from zoo.errors import ExportError
from zoo.inputs import require_file
from zoo.limits import AXES, FOREIGN_NODES, GRAPH_NODES, require_at_most

LARGEST = (1 << 31) - 1
"""protobuf's limit, in bytes."""
ADVICE = (
    "Make one with `python export/to_savedmodel.py --ckpt … --out …`, which writes a SavedModel and two ONNX files."
)
FOREIGN_ADVICE = (
    "Export the network again, with opset 13 to 20 and for images of one size, or simplify the file with onnxsim; "
    "`onnx.save_model` puts the weights into the file."
)
_DOMAINS = {"", "ai.onnx"}
_RUNTIME = "com.microsoft"
"""The operators of ONNX Runtime, which our own quantised files have."""
_SPREADING = {"ConstantOfShape", "Tile", "Range", "Resize", "Upsample", "OneHot", "Loop", "Scan", "If", "NonZero"}
"""Operators with which a small file can ask for a large tensor, and which no export of ours has."""
_BY_CONSTANT = {"Expand", "Pad"}
"""Operators of our exports whose second input, a constant, decides how large their output is."""


def read_onnx(path: str | os.PathLike) -> onnx.ModelProto:
    """The model in an ONNX file of the kind that this project writes: one graph of convolutions, with its weights inside.

    What the project wrote of a network from elsewhere may have any standard operator, as `read_foreign_onnx` allows it.

    Raises:
        ExportError: the file is missing, is not ONNX, is damaged, keeps weights in other files, or has operators, types or sizes
            that no export has.
    """
    path = Path(path)
    with _refusing(path, ADVICE):
        model = _parsed(path)
        if is_imported(model):
            _check_foreign(model, _SIDE)
            return model
        _check_graph(model, {*_DOMAINS, _RUNTIME}, GRAPH_NODES)
        _check_operators(model.graph)
        onnx.checker.check_model(model)
        _check_results(model)
    return model


def read_foreign_onnx(path: str | os.PathLike, side: int) -> onnx.ModelProto:
    """The model in an ONNX file from elsewhere, with its weights inside and its functions written out.

    Any standard operator is allowed, and weights in other files of the same folder. Refused are subgraphs (`If`, `Loop`, `Scan`),
    operators of other domains, weights that are not finite, and tensors whose size does not follow from that of the images or is
    beyond the limits (`export.onnx_sizes`).

    Args:
        path: of the file.
        side: pixels of the images, for inputs that do not say.

    Raises:
        ExportError: the file is missing, is not ONNX, is damaged, or has what is refused.
    """
    path = Path(path)
    with _refusing(path, FOREIGN_ADVICE):
        model = _parsed(path)
        _forget_omitted_inputs(model.graph)
        read_weights(model, path, LARGEST - path.stat().st_size)
        model = inlined(model, _check_attributes)
        _check_foreign(model, side)
    return model


def _forget_omitted_inputs(graph: onnx.GraphProto) -> None:
    """Inputs that a node leaves out at its end are written as empty names or not at all; ONNX Runtime crashes on some of the former."""
    for node in graph.node:
        while node.input and not node.input[-1]:
            del node.input[-1]


def _check_foreign(model: onnx.ModelProto, side: int) -> None:
    _check_graph(model, _DOMAINS, FOREIGN_NODES)
    onnx.checker.check_model(model)
    require_known_sizes(model, side)


@contextmanager
def _refusing(path: Path, advice: str) -> Iterator[None]:
    """Reports what is wrong with a file as one kind of error."""
    require_file(path, "an ONNX file", ExportError, advice)
    require_at_most(LARGEST, path.stat().st_size, "bytes", path, ExportError)
    try:
        yield
    except (DecodeError, onnx.checker.ValidationError, ExportError, ValueError, OSError) as error:
        what = (
            "other bytes, or a part of a file" if isinstance(error, DecodeError) else " ".join(str(error).split())[:400]
        )
        raise ExportError(f"{path} is not a usable ONNX file: {what.rstrip('.')}. {advice}") from error


def _parsed(path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto.FromString(path.read_bytes())
    if not model.graph.node:
        raise ExportError("it has no nodes")
    return model


def _check_graph(model: onnx.ModelProto, domains: Set[str], most: int) -> None:
    """What holds for every file: no functions, no graphs in nodes, tensors that are what they claim to be."""
    graph = model.graph
    require_at_most(most, len(graph.node), "nodes", "its graph", ExportError)
    if model.functions or len(graph.sparse_initializer):
        raise ExportError("it has functions or sparse weights, which no export has")
    for node in graph.node:
        if node.domain not in domains:
            raise ExportError(
                f"its node {node.name[:80]!r} is the operator {node.op_type[:80]!r} of {node.domain[:80]!r}; expected operators "
                f"of {' and '.join(sorted(filter(None, domains)))} only"
            )
        _check_attributes(node)
    for tensor in graph.initializer:
        _check_tensor(tensor, f"the weight {tensor.name!r}")
    for value in (*graph.input, *graph.output, *graph.value_info):
        axes = value.type.tensor_type.shape.dim
        require_at_most(AXES, len(axes), "axes", f"{value.name!r}", ExportError)
        if any(axis.HasField("dim_value") and not 0 <= axis.dim_value <= _LONGEST for axis in axes):
            raise ExportError(f"{value.name!r} has an axis that is negative or longer than {_LONGEST:,}")


def _check_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) or attribute.HasField("g"):
            raise ExportError(f"its node {node.name!r} contains a graph; conditions and loops are not supported")
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise ExportError(f"its node {node.name!r} has a sparse tensor, which no export has")
        for tensor in [attribute.t, *attribute.tensors] if attribute.HasField("t") or attribute.tensors else ():
            _check_tensor(tensor, f"a constant of {node.name!r}")


def _check_operators(graph: onnx.GraphProto) -> None:
    """Raises `ExportError` for operators that make much of little, as far as no export of ours has them."""
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type in _SPREADING:
            raise ExportError(f"it has the operator {node.op_type}, which no export has")
        if node.op_type in _BY_CONSTANT:
            _check_lengths(node, constants)


_LONGEST = 1 << 24
"""Length of an axis."""
_EXPANDED = 1 << 24
"""Values of a tensor that is made by repeating another one."""


_SIDE = 512
"""Pixels of an image, and everything else that a graph leaves open, for the sizes of what it computes."""


def _check_results(model: onnx.ModelProto) -> None:
    """Raises `ExportError` if an operator makes much of little: by broadcasting, padding, or joining a tensor with itself.

    ONNX Runtime computes what depends on no input as soon as it opens a file.
    """
    sketch = _without_values(model)
    for value in sketch.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = 1 if axis == 0 else _SIDE
    try:
        inferred = onnx.shape_inference.infer_shapes(sketch)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the sizes of its tensors cannot be inferred: {error}") from error
    inputs = [
        math.prod(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in inferred.graph.input[: len(model.graph.input)]
    ]
    limit = max(VALUES, OF_INPUT * max(inputs, default=0))
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        _check_size(sizes, f"what it computes as {value.name[:80]!r}", limit)


def _without_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its large weights as inputs, whose shapes are known: inference copies a model several times."""
    made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = model.graph
    made.graph.name = graph.name
    for field in ("node", "input"):
        getattr(made.graph, field).extend(getattr(graph, field))
    for value in graph.output:
        made.graph.output.add(name=value.name).type.tensor_type.elem_type = value.type.tensor_type.elem_type
    given = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            made.graph.initializer.append(tensor)
        elif tensor.name not in given:
            made.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return made


_SMALL = 64
"""Values of a constant that may be a shape."""


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
    if array.size > 1 and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ExportError(f"{what} has values that are NaN or infinite")
    if array.size != math.prod(tensor.dims):
        raise ExportError(f"{what} has {array.size} values, expected {list(tensor.dims)}")


def _check_size(shape: Iterable[float], what: str, limit: int) -> None:
    shape = list(shape)
    if any(length < -1 for length in shape) or math.prod(max(1, int(length)) for length in shape) > limit:
        raise ExportError(f"{what} has the shape {shape[:AXES]}, which is negative or has more than {limit:,} values")
