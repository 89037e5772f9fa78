"""Opens ONNX files: the project's only door for them. What a file claims is checked before anything is computed from it."""

import math
import os
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from export.foreign_graph import keep_output
from export.onnx_metadata import is_imported
from export.onnx_parts import inlined, read_weights, weight_files
from export.onnx_sizes import NEWEST, OLDEST, require_known_sizes
from zoo.errors import ExportError
from zoo.inputs import require_file
from zoo.limits import AXES, ONNX_NODES, require_at_most

LARGEST = (1 << 31) - 1
"""protobuf's limit, in bytes."""
ADVICE = (
    "Make one with `python export/to_savedmodel.py --ckpt … --out …`, which writes a SavedModel and two ONNX files."
)
FOREIGN_ADVICE = (
    f"Export the network again, with opset {OLDEST} to {NEWEST} and for images of one size, or simplify the file with onnxsim; "
    "`onnx.save_model` puts the weights into the file."
)
_DOMAINS = ("", "ai.onnx")
_SPREADING = {"ConstantOfShape", "Tile", "Range", "Resize", "Upsample", "OneHot", "Loop", "Scan", "If", "NonZero"}
"""Operators with which a small file can ask for a large tensor, and which no export of ours has."""
_SIDE = 512
"""Pixels of an image in a file of ours that leaves them open, for the sizes of what it computes."""
_LONGEST = 1 << 24
"""Length of an axis."""


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
        _check(model, _SIDE, frozenset() if is_imported(model) else _SPREADING)
    return model


def read_foreign_onnx(path: str | os.PathLike, side: int, output: str | None = None) -> onnx.ModelProto:
    """What computes one tensor in an ONNX file from elsewhere, with its weights inside and its functions written out.

    Any standard operator is allowed, and weights in other files of the same folder. Refused are subgraphs (`If`, `Loop`, `Scan`),
    operators of other domains, weights that are not finite, and tensors whose size does not follow from that of the images or is
    beyond the limits (`export.onnx_sizes`). What the output does not need may be anything.

    Args:
        path: of the file.
        side: pixels of the images, for inputs that do not say.
        output: the tensor; by default the file's only output.

    Returns:
        A model whose only output is that tensor, without a shape.

    Raises:
        ExportError: the file is missing, is not ONNX, is damaged, has what is refused, or has no such output.
    """
    path = Path(path)
    with _refusing(path, FOREIGN_ADVICE):
        model = _parsed(path)
        read_weights(model, path, LARGEST - path.stat().st_size)
        model = inlined(model, _check_attributes)
    try:
        keep_output(model, output)
    except (ExportError, UnicodeDecodeError) as error:  # a name may be any bytes
        raise ExportError(f"{path}: {error}") from error
    with _refusing(path, FOREIGN_ADVICE):
        _forget_omitted_inputs(model.graph)
        declared = model.graph.output[0].type.tensor_type
        declared.shape.SetInParent()  # ONNX's checker asks for one, and it may be any
        _check(model, side)
        declared.ClearField("shape")
    return model


def foreign_files(path: str | os.PathLike) -> list[Path]:
    """An ONNX file from elsewhere, and the files beside it that have its weights.

    Raises:
        ExportError: the file is missing or is not ONNX, or one beside it is missing or not there.
    """
    path = Path(path)
    with _refusing(path, FOREIGN_ADVICE):
        return [path, *weight_files(_parsed(path), path).values()]


def _forget_omitted_inputs(graph: onnx.GraphProto) -> None:
    """Inputs that a node leaves out at its end are written as empty names or not at all; ONNX Runtime crashes on some of the former."""
    for node in graph.node:
        while node.input and not node.input[-1]:
            del node.input[-1]


def _check(model: onnx.ModelProto, side: int, forbidden: Set[str] = frozenset()) -> None:
    """What holds for every file: sound tensors and nodes, and sizes that are known and within limits."""
    _check_graph(model, forbidden)
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


def _check_graph(model: onnx.ModelProto, forbidden: Set[str]) -> None:
    """No functions, no graphs in nodes, standard operators only, tensors that are what they claim to be."""
    graph = model.graph
    require_at_most(ONNX_NODES, len(graph.node), "nodes", "its graph", ExportError)
    if model.functions or len(graph.sparse_initializer):
        raise ExportError("it has functions or sparse weights, which no export has")
    for node in graph.node:
        if node.domain not in _DOMAINS:
            raise ExportError(
                f"its node {node.name[:80]!r} is the operator {node.op_type[:80]!r} of {node.domain[:80]!r}; expected operators "
                "of ONNX itself"
            )
        if node.op_type in forbidden:
            raise ExportError(f"it has the operator {node.op_type}, which no export has")
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
