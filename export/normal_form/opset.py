"""Operators of files from elsewhere as opset 13 has them: one form for all rewrites after this one."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from export.exporters import OPSET
from export.normal_form.activations import activations_by_simpler_ones
from export.normal_form.composed import composed_operators
from export.normal_form.norms import layer_norm_by_means
from export.normal_form.surgery import numbers
from zoo.errors import ExportError

_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd")
_NEW_ATTRIBUTES = {
    "AveragePool": {"dilations": [1, 1]},
    "BatchNormalization": {"training_mode": 0},
    "Cast": {"saturate": 1},
    "Reshape": {"allowzero": 0},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": "stretch"},
}
"""Attributes that opset 13 does not have, with the only value that it can express."""


def operators_of_opset_13(graph: gs.Graph) -> None:
    """Gives every operator the inputs and attributes of opset 13, and replaces newer operators by their formulas."""
    for rewrite in (activations_by_simpler_ones, layer_norm_by_means):
        rewrite(graph)
    for node in graph.nodes:
        for name, value in _NEW_ATTRIBUTES.get(node.op, {}).items():
            found = node.attrs.pop(name, value)
            if (list(found) if isinstance(value, list) else found) != value:
                raise ExportError(f"{node.op} at {node.name!r} has {name}={found!r}, which no rewrite knows")
        if adapt := _ADAPTED.get(node.op):
            adapt(node)
    composed_operators(graph)
    graph.opset, graph.import_domains = OPSET, None


def _reduction(node: gs.Node) -> None:
    """Axes as an attribute, counted from the front."""
    if len(node.inputs) > 1:
        node.attrs["axes"] = numbers(node, 1)
        node.inputs = node.inputs[:1]  # graphsurgeon's lists do not delete slices
    axes = node.attrs.get("axes")
    if node.attrs.pop("noop_with_empty_axes", 0) and not axes:
        raise ExportError(f"{node.op} at {node.name!r} reduces no axis (noop_with_empty_axes), which no rewrite knows")
    if not axes or min(axes) < 0:
        rank = _rank(node)
        node.attrs["axes"] = [axis % rank for axis in axes or range(rank)]


def _sum(node: gs.Node) -> None:
    """The only reduction whose axes are an input in opset 13."""
    _reduction(node)
    axes = gs.Constant(f"{node.name}/axes", np.array(node.attrs.pop("axes"), np.int64))
    node.inputs = [node.inputs[0], axes]


def _power(node: gs.Node) -> None:
    """An exponent of the base's type."""
    if isinstance(node.inputs[1], gs.Constant):
        node.inputs[1] = gs.Constant(f"{node.name}/exponent", node.inputs[1].values.astype(np.float32))


def _split(node: gs.Node) -> None:
    """The sizes of the parts, as an input."""
    node.attrs.pop("num_outputs", None)
    if len(node.inputs) < 2:
        axis = node.attrs.get("axis", 0)
        sizes = [tensor.shape[axis] for tensor in node.outputs]
        node.inputs.append(gs.Constant(f"{node.name}/sizes", np.array(sizes, np.int64)))
    node.attrs["axis"] = node.attrs.get("axis", 0) % _rank(node)


def _pad(node: gs.Node) -> None:
    """An amount for every axis."""
    if len(node.inputs) < 4:
        return
    rank, axes, amounts = _rank(node), numbers(node, 3), np.reshape(numbers(node, 1), (2, -1))
    whole = np.zeros((2, rank), np.int64)
    whole[:, [axis % rank for axis in axes]] = amounts
    node.inputs[1] = gs.Constant(f"{node.name}/pads", whole.reshape(-1))
    node.inputs = node.inputs[:3]


def _softmax(node: gs.Node) -> None:
    node.attrs["axis"] = node.attrs.get("axis", -1) % _rank(node)


def _rank(node: gs.Node) -> int:
    shape = node.inputs[0].shape
    if shape is None:
        raise ExportError(f"{node.op} at {node.name!r} has an input of unknown shape, {node.inputs[0].name!r}")
    return len(shape)


_ADAPTED: dict[str, Callable[[gs.Node], None]] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "ReduceSum": _sum,
    "Pow": _power,
    "Split": _split,
    "Pad": _pad,
    "Softmax": _softmax,
}
