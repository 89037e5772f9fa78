"""Pooling, powers and padding of maps."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, producer, replace


def explicit_average_pooling(graph: gs.Graph) -> None:
    """Makes average pooling's padding explicit, so that it is correct for any input size.

    2×2 pooling with stride 2 that averages odd edges over existing pixels is SAME_UPPER with padding not counted. Pooling that
    counts its padding becomes a Pad with zeros and a pooling without padding. If padding is not counted, the result is divided
    by the same pooling of ones, because TensorFlow's padding never starts one pixel before an even map.
    """
    for node in [node for node in graph.nodes if node.op == "AveragePool"]:
        pads, counted = node.attrs.get("pads", [0, 0, 0, 0]), node.attrs.get("count_include_pad", 0)
        if any(pads) and not node.attrs.get("ceil_mode", 0):
            features, output = node.inputs[0], node.outputs[0]
            averaged = _padded_average(graph, node, features, pads)
            if not counted:
                one, zero = (gs.Constant(f"{node.name}/{value}", np.array(value, np.float32)) for value in (1, 0))
                mean = append(graph, "ReduceMean", [features], like=output, attrs={"axes": [1], "keepdims": 1})
                ones = append(graph, "Add", [append(graph, "Mul", [mean, zero], like=output), one], like=output)
                averaged = append(graph, "Div", [averaged, _padded_average(graph, node, ones, pads)], like=output)
            replace(graph, output, averaged)
            node.outputs.clear()
        elif node.attrs.get("ceil_mode", 0) and node.attrs["kernel_shape"] == node.attrs["strides"] and not any(pads):
            node.attrs.pop("pads", None)
            node.attrs.update(auto_pad="SAME_UPPER", ceil_mode=0, count_include_pad=0)


def explicit_max_pooling(graph: gs.Graph) -> None:
    """Pads the end of a maximum pooling whose last window the edge may cut, so that no window needs to be cut."""
    for node in [node for node in graph.nodes if node.op == "MaxPool" and node.attrs.get("ceil_mode", 0)]:
        if not any(node.attrs.get("pads", [0])):
            down, right = node.attrs["strides"]
            node.attrs.update(ceil_mode=0, pads=[0, 0, down - 1, right - 1])


def _padded_average(graph: gs.Graph, node: gs.Node, features: gs.Variable, pads: list[int]) -> gs.Variable:
    """A node's average pooling applied to other features, padded with zeros that are counted."""
    amounts = gs.Constant(f"{features.name}/pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
    padded = append(graph, "Pad", [features, amounts], like=node.outputs[0], attrs={"mode": "constant"})
    attributes = {"kernel_shape": node.attrs["kernel_shape"], "strides": node.attrs["strides"], "pads": [0, 0, 0, 0]}
    return append(graph, "AveragePool", [padded], like=node.outputs[0], attrs=attributes)


def mean_by_rows(graph: gs.Graph) -> None:
    """Replaces the mean of a map by the mean of its rows' means.

    TensorFlow 2.2 computes one long sum over a map, whose rounding errors all have the same sign if the map is flat: for 56 × 56
    equal pixels the error is 30 times that of two short sums, and split attention propagates it.
    """
    for node in [node for node in graph.nodes if node.op == "ReduceMean" and sorted(node.attrs["axes"]) == [2, 3]]:
        node.inputs[0] = append(
            graph, "ReduceMean", node.inputs[:1], like=node.outputs[0], attrs={"axes": [3], "keepdims": 1}
        )
        if node.attrs.get("keepdims", 1):
            node.attrs["axes"] = [2]


def powers_by_logarithm(graph: gs.Graph) -> None:
    """Replaces GeM's learned power of a map by exp(p · log x): in TensorFlow a power takes 20 times as long as both.

    Its base is clipped from below, so the logarithm exists. A power of a pooled value is unchanged.
    """
    for node in [node for node in graph.nodes if node.op == "Pow" and _is_positive(node.inputs[0])]:
        logarithm = append(graph, "Log", node.inputs[:1], like=node.outputs[0])
        product = append(graph, "Mul", [logarithm, node.inputs[1]], like=node.outputs[0])
        replace(graph, node.outputs[0], append(graph, "Exp", [product], like=node.outputs[0]))


def _is_positive(tensor: gs.Tensor) -> bool:
    """Whether a value is clipped to be above zero."""
    clip = producer(tensor, "Clip")
    low = clip.inputs[1] if clip is not None and len(clip.inputs) > 1 else None
    return isinstance(low, gs.Constant) and bool(np.all(low.values > 0))


def same_padding(graph: gs.Graph) -> None:
    """Rewrites size-preserving padding of stride-1 convolutions as SAME, which needs no Pad in TensorFlow."""
    for node in graph.nodes:
        if node.op != "Conv" or node.attrs.get("strides", [1, 1]) != [1, 1] or "pads" not in node.attrs:
            continue
        kernel, dilated = node.inputs[1].values.shape[2:], any(step > 1 for step in node.attrs.get("dilations", ()))
        odd = all(size % 2 for size in kernel)
        if (
            odd
            and not dilated
            and list(node.attrs["pads"]) == [size // 2 for size in kernel] * 2
            and any(node.attrs["pads"])
        ):
            del node.attrs["pads"]
            node.attrs["auto_pad"] = "SAME_UPPER"
