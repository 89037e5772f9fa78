"""Edits of somebody else's ONNX graph: its input, its output, and what its file has beside the network."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from zoo.errors import ExportError

_SHOWN = 8
"""Tensors that an error lists."""
_ELSEWHERE = "given"
"""Prefix of somebody else's tensors that have a name of the project's."""
_KINDS = {number: name.lower() for name, number in TensorProto.DataType.items()}


def only_input(model: onnx.ModelProto, size: int) -> str:
    """The name of the graph's input, if images [N, 3, size, size] can go into it; initialisers among the inputs are removed,
    and so is what no node reads.

    Raises:
        ExportError: there are several inputs or none, or it is of another type or shape.
    """
    graph = model.graph
    read = {name for node in graph.node for name in node.input} - {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name in read]
    if not inputs and graph.input:
        raise ExportError(f"{graph.output[0].name!r} does not depend on the input. Choose another --output.")
    if len(inputs) != 1:
        found = ", ".join(_described(value) for value in inputs[:_SHOWN]) or "none"
        raise ExportError(
            f"expected one input, float32 [N, 3, H, W]; found {found}. Export the network of the images alone."
        )
    [value] = inputs
    del graph.input[:]
    graph.input.append(value)
    kind, axes = value.type.tensor_type.elem_type, _axes(value)
    what = f"expected the input float32 [N, 3, H, W]; found {_described(value)}."
    if kind != TensorProto.FLOAT:
        advice = "Export it without the preprocessing of pixels, and in float32."
        raise ExportError(f"{what} {advice}")
    if len(axes) != 4 or axes[1] not in (3, None):
        last = len(axes) == 4 and axes[3] == 3
        advice = (
            "Its channels are last: export it with its channels first (tf2onnx: `--inputs-as-nchw`)."
            if last
            else "Export the network of images with three channels."
        )
        raise ExportError(f"{what} {advice}")
    if axes[0] not in (1, None):
        raise ExportError(f"{what} Export it with a batch of 1, or with a dynamic one.")
    for side in axes[2:]:
        if side not in (size, None):
            raise ExportError(
                f"{what} Its images are {axes[2]} × {axes[3]} px: pass their side as --size, or export it anew."
            )
    return value.name


def keep_output(model: onnx.ModelProto, wanted: str | None) -> None:
    """Reduces a model to what computes one tensor, its only output then.

    Args:
        model: changed in place.
        wanted: any tensor that a node computes; None for the only output.

    Raises:
        ExportError: there is no such tensor, or there are several outputs to choose from.
    """
    graph = model.graph
    names = [value.name for value in graph.output]
    if wanted is None and len(names) != 1:
        shown = ", ".join(_described(value) for value in graph.output[:_SHOWN]) or "none"
        raise ExportError(f"expected one output; found {shown}. Choose the descriptor with --output.")
    wanted = names[0] if wanted is None else wanted
    computed = {name: node for node in graph.node for name in node.output if name}
    if wanted not in computed:
        near = difflib.get_close_matches(wanted, computed, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Its outputs are {', '.join(map(repr, names[:_SHOWN]))}."
        raise ExportError(f"no node computes a tensor {wanted!r}. {hint}")
    value = next((value for value in (*graph.output, *graph.value_info) if value.name == wanted), None)
    kept = onnx.ValueInfoProto(name=wanted)
    kept.type.tensor_type.elem_type = (value.type.tensor_type.elem_type if value else 0) or TensorProto.FLOAT
    del graph.output[:], graph.value_info[:]
    graph.output.append(kept)
    _prune(graph)


def _prune(graph: onnx.GraphProto) -> None:
    """Removes nodes and initialisers that no output needs; an ONNX graph's nodes are sorted."""
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(filter(None, node.input))  # an empty name stands for what is left out
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)


def require_descriptor(name: str, found: np.ndarray) -> int:
    """The length of a descriptor.

    Args:
        name: the tensor's.
        found: its value for one image.

    Raises:
        ExportError: it is not float32 [1, D] or [1, D, 1, 1] with D > 1, has values that are not finite, or only zeros.
    """
    what = f"expected a descriptor float32 [N, D] from {name!r}"
    if found.dtype != np.float32:
        raise ExportError(f"{what}; found {found.dtype}. Export the network in float32.")
    long = [length for length in found.shape[1:] if length != 1]
    if found.ndim < 2 or found.shape[0] != 1 or len(long) != 1:
        raise ExportError(
            f"{what}; found {list(found.shape)} for one image. Export the network with its global pooling, or choose a tensor after "
            "the pooling with --output."
        )
    if not np.isfinite(found).all():
        raise ExportError(
            f"{what}; found values that are not finite. Its weights are damaged, or its training diverged."
        )
    if not found.any():
        raise ExportError(f"{what}; found only zeros for a picture. Check --output and the network's weights.")
    return long[0]


def tidy(model: onnx.ModelProto) -> None:
    """Removes what exporters write beside the network, such as paths of somebody's machine; gives each node a name of its own."""
    graph = model.graph
    del graph.value_info[:], graph.quantization_annotation[:], model.training_info[:]
    model.doc_string = ""
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        node.doc_string = ""
        node.ClearField("metadata_props")
        node.name = node.name or node.op_type
        while node.name in taken:
            node.name += f"_{index}"
        taken.add(node.name)


def use_names(model: onnx.ModelProto, names: Mapping[str, str], reserved: Sequence[str]) -> None:
    """Renames tensors.

    Args:
        model: changed in place.
        names: new names by old ones.
        reserved: names that other tensors may not have, nor names below them (`reserved/…`): these get another prefix.
    """
    graph = model.graph
    present = {name for node in graph.node for name in (*node.input, *node.output)}
    # What has the prefix already gets it once more, so that no two tensors become one.
    places = tuple(f"{name}/" for name in (*reserved, _ELSEWHERE))
    renamed = {name: f"{_ELSEWHERE}/{name}" for name in present if name in reserved or name.startswith(places)}
    renamed |= names
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [renamed.get(name, name) for name in field]
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)


def _axes(value: onnx.ValueInfoProto) -> list[int | None]:
    """The lengths of a tensor's axes; None for one that is not fixed."""
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _described(value: onnx.ValueInfoProto) -> str:
    kind = _KINDS.get(value.type.tensor_type.elem_type, "of no known type")
    axes = ["?" if length is None else str(length) for length in _axes(value)]
    return f"{value.name!r} {kind} [{', '.join(axes)}]"
