"""Convolutions and poolings of maps of a constant size, with every pixel of padding written out."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.grouped import is_depthwise
from export.normal_form.surgery import append, replace
from zoo.errors import ExportError


def global_pooling_by_reduction(graph: gs.Graph) -> None:
    """Replaces global pooling by the mean or the maximum over a map."""
    for node in [node for node in graph.nodes if node.op in ("GlobalAveragePool", "GlobalMaxPool")]:
        axes = list(range(2, len(node.inputs[0].shape)))
        node.attrs = {"axes": axes, "keepdims": 1}
        node.op = "ReduceMean" if node.op == "GlobalAveragePool" else "ReduceMax"


def convolutions_of_maps(graph: gs.Graph) -> None:
    """Gives convolutions two spatial axes and numbers for padding; of depthwise ones, equal strides and no dilation.

    A dilated depthwise kernel is filled up with zeros, and one with unequal strides computes every pixel, of which some are
    taken: TensorFlow 2.2 has neither on CPUs.
    """
    for node in [node for node in graph.nodes if node.op == "Conv"]:
        if not isinstance(node.inputs[1], gs.Constant):
            raise ExportError(f"Conv at {node.name!r} computes its weights; only constant weights are supported")
        kernel = node.inputs[1].values.shape[2:]
        if len(kernel) > 2:
            raise ExportError(f"Conv at {node.name!r} has {len(kernel)} spatial axes; at most 2 are supported")
        _number_pads(node, kernel)
        if len(kernel) == 1:
            _over_maps(graph, node)
        if is_depthwise(node):
            _fill_dilation(node)
            _take_strides(graph, node)


def _over_maps(graph: gs.Graph, node: gs.Node) -> None:
    """A convolution of [N, C, L] as one of [N, C, 1, L]."""
    like, values = node.outputs[0], node.inputs[1].values
    axes = gs.Constant(f"{node.name}/axes", np.array([2], np.int64))
    node.inputs[0] = append(graph, "Unsqueeze", [node.inputs[0], axes], like)
    node.inputs[1] = gs.Constant(f"{node.name}/weight", values[:, :, None])
    for name, one in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
        if name in node.attrs:
            node.attrs[name] = [one, *node.attrs[name]]
    if "pads" in node.attrs:
        before, after = node.attrs["pads"]
        node.attrs["pads"] = [0, before, 0, after]
    convolved = gs.Variable(f"{node.name}/maps", np.float32)
    node.outputs = [convolved]
    replace(graph, like, append(graph, "Squeeze", [convolved, axes], like))


def _number_pads(node: gs.Node, kernel: tuple[int, ...]) -> None:
    """`auto_pad` as numbers."""
    how = node.attrs.pop("auto_pad", "NOTSET")
    if how in ("NOTSET", "VALID"):
        return
    strides, dilations = (node.attrs.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    totals = [
        max(0, (-(-length // stride) - 1) * stride + (size - 1) * dilation + 1 - length)
        for length, stride, size, dilation in zip(node.inputs[0].shape[2:], strides, kernel, dilations, strict=True)
    ]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    node.attrs["pads"] = [*less, *more] if how == "SAME_UPPER" else [*more, *less]


def _fill_dilation(node: gs.Node) -> None:
    dilations = node.attrs.get("dilations", [1, 1])
    if list(dilations) == [1, 1]:
        return
    values = node.inputs[1].values
    sizes = [(size - 1) * dilation + 1 for size, dilation in zip(values.shape[2:], dilations, strict=True)]
    filled = np.zeros((*values.shape[:2], *sizes), values.dtype)
    filled[:, :, :: dilations[0], :: dilations[1]] = values
    node.inputs[1] = gs.Constant(f"{node.name}/weight", filled)
    node.attrs.update(dilations=[1, 1], kernel_shape=sizes)


def _take_strides(graph: gs.Graph, node: gs.Node) -> None:
    strides = list(node.attrs.get("strides", [1, 1]))
    if strides[0] == strides[1]:
        return
    like, every = node.outputs[0], gs.Variable(f"{node.name}/every", np.float32)
    node.attrs["strides"], node.outputs = [1, 1], [every]
    numbers = {"starts": [0, 0], "ends": [np.iinfo(np.int64).max] * 2, "axes": [2, 3], "steps": strides}
    constants = [gs.Constant(f"{node.name}/{name}", np.array(values, np.int64)) for name, values in numbers.items()]
    replace(graph, like, append(graph, "Slice", [every, *constants], like))


def poolings_of_maps(graph: gs.Graph) -> None:
    """Writes out the padding of pooling, including the pixels by which a last window that is rounded up exceeds the map.

    An average that does not count padding is multiplied by the number of a window's pixels divided by those within the map.
    """
    for node in [node for node in graph.nodes if node.op in ("AveragePool", "MaxPool")]:
        kernel = tuple(node.attrs["kernel_shape"])
        if len(kernel) != 2:
            raise ExportError(f"{node.op} at {node.name!r} has {len(kernel)} spatial axes; only 2 are supported")
        if any(number != 1 for number in node.attrs.pop("dilations", [1])):
            raise ExportError(f"{node.op} at {node.name!r} has a dilation, which TensorFlow's pooling has not")
        node.attrs.setdefault("strides", [1, 1])
        _number_pads(node, kernel)
        rounds_up, counted = node.attrs.pop("ceil_mode", 0), node.attrs.pop("count_include_pad", 0)
        pads = node.attrs.pop("pads", [0, 0, 0, 0])
        axes = list(zip(node.inputs[0].shape[2:], kernel, node.attrs["strides"], pads[:2], pads[2:], strict=True))
        starts = [_window_starts(*axis, rounds_up=bool(rounds_up)) for axis in axes]
        beyond = [
            max(0, int(found[-1]) + size - length) for found, (length, size, *_) in zip(starts, axes, strict=True)
        ]
        node.attrs["pads"] = [0, 0, 0, 0]
        if not any([*pads[:2], *beyond]):
            continue
        whole = [*pads[:2], *beyond]
        if node.op == "MaxPool":
            node.attrs["pads"] = whole
            continue
        amounts = gs.Constant(f"{node.name}/pads", np.array([0, 0, *whole[:2], 0, 0, *whole[2:]], np.int64))
        node.inputs[0] = append(graph, "Pad", [node.inputs[0], amounts], node.outputs[0], {"mode": "constant"})
        factors = [
            size / _pixels(found, length, size, (before, after) if counted else (0, 0))
            for found, (length, size, _, before, after) in zip(starts, axes, strict=True)
        ]
        factor = np.multiply.outer(*factors).astype(np.float32)[None, None]
        if (factor != 1).any():
            like, averaged = node.outputs[0], gs.Variable(f"{node.name}/counted", np.float32)
            node.outputs = [averaged]
            replace(graph, like, append(graph, "Mul", [averaged, gs.Constant(f"{node.name}/factor", factor)], like))


def _window_starts(length: int, size: int, stride: int, before: int, after: int, *, rounds_up: bool) -> np.ndarray:
    """Where the windows along one axis begin; below 0 in the padding."""
    room = length + before + after - size
    count = (-(-room // stride) if rounds_up else room // stride) + 1
    starts = np.arange(count) * stride - before
    return starts[starts < length + (0 if rounds_up else after)]  # a window that begins beyond the map does not count


def _pixels(starts: np.ndarray, length: int, size: int, pads: tuple[int, int]) -> np.ndarray:
    """How many pixels of each window lie within the map and these pads."""
    ends = np.minimum(starts + size, length + pads[1])
    return ends - np.maximum(starts, -pads[0])
