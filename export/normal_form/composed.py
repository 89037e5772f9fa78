"""Operators on several tensors, or that move pixels, written with operators that TensorFlow 2.2 has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, constant, numbers, replace
from zoo.errors import ExportError


def composed_operators(graph: gs.Graph) -> None:
    """Replaces Mean, DepthToSpace (arXiv 1609.05158), SpaceToDepth, and Pad that cuts or repeats the edge or the map.

    Args:
        graph: with the inputs and attributes of opset 13, and known shapes but for the batch.

    Raises:
        ExportError: a Pad that repeats a batch, or by a computed amount.
    """
    for node in [node for node in graph.nodes if node.op in _COMPOSED]:
        if (result := _COMPOSED[node.op](graph, node)) is not None:
            replace(graph, node.outputs[0], result)
            node.outputs.clear()


def _mean(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    total = append(graph, "Sum", node.inputs, node.outputs[0])
    share = constant(node, "share", np.array(1 / len(node.inputs), np.float32))
    return append(graph, "Mul", [total, share], node.outputs[0])


def _depth_to_space(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    """Channels are [side, side, C] in the mode DCR, which is ONNX's default, and [C, side, side] in CRD, PyTorch's PixelShuffle."""
    _, channels, height, width = node.inputs[0].shape
    side = _side(node)
    kept = channels // side**2
    if node.attrs.get("mode", "DCR") == "DCR":
        parts, order = [side, side, kept], [0, 3, 4, 1, 5, 2]
    else:
        parts, order = [kept, side, side], [0, 1, 4, 2, 5, 3]
    return _moved(graph, node, [*parts, height, width], order, [kept, height * side, width * side])


def _space_to_depth(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    _, channels, height, width = node.inputs[0].shape
    side = _side(node)
    rows, columns = height // side, width // side
    return _moved(
        graph, node, [channels, rows, side, columns, side], [0, 3, 5, 1, 2, 4], [channels * side**2, rows, columns]
    )


def _side(node: gs.Node) -> Any:
    """Pixels of a block's side."""
    return node.attrs["blocksize"]


def _moved(graph: gs.Graph, node: gs.Node, parts: list[int], order: list[int], shape: list[int]) -> gs.Variable:
    """A tensor whose axes behind the batch are divided into parts, put into another order, and joined."""
    like = node.outputs[0]
    divided, joined = (
        constant(node, name, np.array([-1, *lengths], np.int64))
        for name, lengths in (("parts", parts), ("shape", shape))
    )
    value = append(graph, "Reshape", [node.inputs[0], divided], like)
    value = append(graph, "Transpose", [value], like, {"perm": order})
    return append(graph, "Reshape", [value, joined], like)


def _pad(graph: gs.Graph, node: gs.Node) -> gs.Variable | None:
    """The pixels that each padded axis takes; None for forms that TensorFlow has."""
    mode, amounts = node.attrs.get("mode", "constant"), np.reshape(numbers(node, 1), (2, -1))
    if mode == "constant" and (amounts < 0).any():
        return _cut_and_padded(graph, node, amounts)
    if mode not in ("edge", "wrap"):
        return None
    value = node.inputs[0]
    for axis, (before, after) in enumerate(amounts.T):
        if not before and not after:
            continue
        length = node.inputs[0].shape[axis]
        if not isinstance(length, int):
            raise ExportError(f"Pad at {node.name!r} repeats axis {axis}, whose length is unknown")
        places = np.arange(-before, length + after)
        taken = places % length if mode == "wrap" else places.clip(0, length - 1)
        value = append(graph, "Gather", [value, constant(node, f"axis{axis}", taken)], node.outputs[0], {"axis": axis})
    return value


def _cut_and_padded(graph: gs.Graph, node: gs.Node, amounts: np.ndarray) -> gs.Variable:
    """Negative amounts cut, which TensorFlow's Pad refuses."""
    like, (before, after) = node.outputs[0], amounts
    ends = np.where(after < 0, after, np.iinfo(np.int64).max)
    bounds = {"starts": np.maximum(-before, 0), "ends": ends, "axes": np.arange(len(before))}
    cut = append(graph, "Slice", [node.inputs[0], *(constant(node, *bound) for bound in bounds.items())], like)
    padding = constant(node, "padding", np.maximum(amounts, 0).reshape(-1))
    return append(graph, "Pad", [cut, padding, *node.inputs[2:]], like, {"mode": "constant"})


_COMPOSED: dict[str, Callable[[gs.Graph, gs.Node], gs.Variable | None]] = {
    "DepthToSpace": _depth_to_space,
    "Mean": _mean,
    "Pad": _pad,
    "SpaceToDepth": _space_to_depth,
}
