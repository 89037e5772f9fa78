"""What an ONNX file may keep outside of its graph: weights in files beside it, and functions."""

import math
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx.inliner import inline_local_functions

from export.written_out import WrittenOut
from zoo.errors import ExportError
from zoo.inputs import real_path, require_file
from zoo.limits import ONNX_NODES, require_at_most


def read_weights(model: onnx.ModelProto, path: Path, largest: int) -> None:
    """Reads weights that lie in other files of the same folder, as PyTorch's newer exporter writes them, into a model.

    Args:
        model: gets the weights.
        path: of its file.
        largest: bytes of all weights together.

    Raises:
        ExportError: another file lies elsewhere, is missing, or does not hold what the model says.
    """
    files = weight_files(model, path)
    read: dict[str, int] = {}
    for tensor in _kept_outside(model):
        what, place = f"the weight {tensor.name[:80]!r}", _place(tensor)
        name = place.get("location", "")
        size = _bytes(tensor, what)
        offset = _number(place.get("offset", "0"), what)
        if _number(place.get("length", str(size)), what) != size:
            raise ExportError(f"{what} has {place['length']} bytes in {name}, expected {size}")
        read[name] = read.get(name, 0) + size
        held = files[name].stat().st_size
        if offset + size > held or read[name] > held:
            raise ExportError(f"{what} lies beyond the end of {name}, or in the place of another one: {held} bytes")
        require_at_most(largest, sum(read.values()), "bytes of weights in other files", path, ExportError)
        with files[name].open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = content


def weight_files(model: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """{name that a model gives it: file} of each file beside the model's that has some of its weights.

    Raises:
        ExportError: a file lies elsewhere or is missing.
    """
    whose = {_place(tensor).get("location", ""): tensor.name for tensor in _kept_outside(model)}
    return {name: _beside(path, name, f"the weight {tensor[:80]!r}") for name, tensor in whose.items()}


def _kept_outside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
    ]


def _place(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _beside(path: Path, name: str, what: str) -> Path:
    """The file `name` in the folder of `path`, or where a link of that name leads if that is the real file's folder."""
    # protobuf returns a text that is not UTF-8 as bytes
    if not isinstance(name, str) or name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise ExportError(f"{what} lies in {name[:200]!r}; expected a file in the folder of {path.name}")
    file = path.with_name(name)
    require_file(file, f"the file that has {what}", ExportError, f"Put it beside {path.name}, as it was exported.")
    if real_path(file).parent not in (real_path(path.parent), real_path(path).parent):
        raise ExportError(f"{file} is a link that leads to another folder; expected the file that has {what}")
    return file


def _bytes(tensor: onnx.TensorProto, what: str) -> int:
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{what} is of an unknown type: {tensor.data_type}") from error
    if any(length < 0 for length in tensor.dims):
        raise ExportError(f"{what} has an axis that is negative")
    return math.prod(tensor.dims) * itemsize


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ExportError(f"{what} has the place {text[:80]!r} in its file; expected a number of bytes")
    return int(text)


def inlined(model: onnx.ModelProto, check: Callable[[onnx.NodeProto], None]) -> onnx.ModelProto:
    """The model with what its functions consist of in the place of every call.

    Args:
        model: may be changed.
        check: called with every node of every function before.

    Raises:
        ExportError: functions that call themselves, are too much written out, or are of another version of ONNX than the graph.
    """
    if not model.functions:
        return model
    functions = {
        _name(function.domain, function.name, function.overload): function.node for function in model.functions
    }
    for node in (node for nodes in functions.values() for node in nodes):
        check(node)
    WrittenOut(functions, _called, "its functions", ONNX_NODES, _kib).require_bounded(model.graph.node)
    try:
        made = inline_local_functions(model)
    except RuntimeError as error:
        raise ExportError(f"its functions cannot be written out: {error}") from error
    if made.functions:
        raise ExportError(f"its function {made.functions[0].name[:80]!r} cannot be written out")
    return made


def _called(node: onnx.NodeProto) -> tuple[tuple[str, str, str]]:
    return (_name(node.domain, node.op_type, node.overload),)


def _kib(node: onnx.NodeProto) -> int:
    """One for the node and one per KiB of what it holds: a function's constants are copied with every call."""
    return 1 + node.ByteSize() // 1024


def _name(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    return "" if domain == "ai.onnx" else domain, name, overload
