"""Normalisations written with means, sums and products: BatchNorm that stands alone, LayerNorm, GroupNorm, instance norm, L2."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import affine, append, producer, replace


def batch_norm_by_scale(graph: gs.Graph) -> None:
    """Replaces BatchNorm that no convolution took in by a product and a sum per channel.

    There is one between a sum and a ReLU in pre-activation networks, and one of pooled features [N, C] that no linear layer follows.
    """
    for node in [node for node in graph.nodes if node.op == "BatchNormalization"]:
        features, like = node.inputs[0], node.outputs[0]
        ones = [1] * (_rank(features) - 2)
        scale, shift = (
            gs.Constant(f"{node.name}/{part}", value.astype(np.float32).reshape(-1, *ones))
            for part, value in zip(("scale", "shift"), affine(node), strict=True)
        )
        replace(graph, like, append(graph, "Add", [append(graph, "Mul", [features, scale], like), shift], like))
        node.outputs.clear()


def instance_norm_by_means(graph: gs.Graph) -> None:
    """Writes instance normalisation (arXiv 1607.08022) with means: TensorFlow has no operator for it."""
    for node in [node for node in graph.nodes if node.op == "InstanceNormalization"]:
        rank = _rank(node.inputs[0])  # in files from elsewhere also [N, G, L], the groups of GroupNorm
        scale, shift = (
            gs.Constant(f"{node.name}/{part}", value.values.reshape(1, -1, *[1] * (rank - 2)))
            for part, value in zip(("scale", "shift"), node.inputs[1:], strict=True)
        )
        _replace_by_means(graph, node, list(range(2, rank)), scale, [shift])


def groups_of_maps(graph: gs.Graph) -> None:
    """Lets a group of GroupNorm keep its axes: [N, G, C / G, H, W], where exporters write [N, G, C / G · H · W].

    Then the writer divides the channels where they stand and moves nothing.
    """
    for node in [node for node in graph.nodes if node.op == "InstanceNormalization"]:
        reshape = producer(node.inputs[0], "Reshape")
        maps, groups = reshape.inputs[0].shape if reshape else None, len(node.inputs[1].values)
        if maps is None or len(maps) != 4 or _rank(node.inputs[0]) != 3 or maps[1] % groups:
            continue
        shape = [-1, groups, maps[1] // groups, *maps[2:]]
        reshape.inputs[1] = gs.Constant(f"{reshape.name}/groups", np.array(shape, np.int64))
        for tensor in (reshape.outputs[0], node.outputs[0]):
            tensor.shape = ["N", *shape[1:]]


def group_norm_by_instance_norm(graph: gs.Graph) -> None:
    """Replaces GroupNorm (arXiv 1803.08494) of maps by instance normalisation of the groups.

    Of no shape is assumed to be known: ONNX infers none behind GroupNormalization.
    """
    for node in [node for node in graph.nodes if node.op == "GroupNormalization"]:
        features, scale, shift = node.inputs
        groups, like, per_group = node.attrs["num_groups"], node.outputs[0], [scale, shift]
        per_channel = len(scale.values) != groups  # since opset 21
        if per_channel:
            per_group = [gs.Constant(f"{node.name}/{v}", np.full(groups, v, np.float32)) for v in (1, 0)]
        lines = gs.Constant(f"{node.name}/lines", np.array([0, groups, -1], np.int64))
        grouped = append(graph, "Reshape", [features, lines], like)
        epsilon = {"epsilon": node.attrs.get("epsilon", 1e-5)}
        normalised = append(graph, "InstanceNormalization", [grouped, *per_group], like, epsilon)
        shape = append(graph, "Shape", [features], like)
        shape.dtype = np.int64
        result = append(graph, "Reshape", [normalised, shape], like)
        if per_channel:
            factor, offset = (
                gs.Constant(f"{node.name}/{part}", value.values.reshape(-1, 1, 1))
                for part, value in (("scale", scale), ("shift", shift))
            )
            result = append(graph, "Add", [append(graph, "Mul", [result, factor], like), offset], like)
        replace(graph, like, result)
        node.outputs.clear()


def layer_norm_by_means(graph: gs.Graph) -> None:
    """Replaces LayerNorm (arXiv 1607.06450), which normalises over the last axes, by means."""
    for node in [node for node in graph.nodes if node.op == "LayerNormalization"]:
        features, scale, *shift = node.inputs
        rank = _rank(features)
        axes = list(range(node.attrs.get("axis", -1) % rank, rank))
        _replace_by_means(graph, node, axes, scale, [tensor for tensor in shift if not tensor.is_empty()])


def _replace_by_means(
    graph: gs.Graph, node: gs.Node, axes: list[int], scale: gs.Tensor, shift: list[gs.Tensor]
) -> None:
    """Replaces a node by (x - mean) · scale / √(variance + ε) + shift, with mean and variance over axes."""
    features, like, mean = node.inputs[0], node.outputs[0], {"axes": axes, "keepdims": 1}
    epsilon = gs.Constant(f"{node.name}/epsilon", np.array(node.attrs.get("epsilon", 1e-5), np.float32))
    centred = append(graph, "Sub", [features, append(graph, "ReduceMean", [features], like, mean)], like)
    variance = append(graph, "ReduceMean", [append(graph, "Mul", [centred, centred], like)], like, mean)
    deviation = append(graph, "Sqrt", [append(graph, "Add", [variance, epsilon], like)], like)
    result = append(graph, "Mul", [centred, append(graph, "Div", [scale, deviation], like)], like)
    replace(graph, like, append(graph, "Add", [result, *shift], like) if shift else result)
    node.outputs.clear()


_LENGTHS = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "LpNormalization")


def lengths_by_sums(graph: gs.Graph) -> None:
    """Replaces lengths (L1 and L2), sums of squares, and the division by a length, by sums."""
    for node in [node for node in graph.nodes if node.op in _LENGTHS]:
        [features], like, divides = node.inputs, node.outputs[0], node.op == "LpNormalization"
        axes = [node.attrs.get("axis", -1) % _rank(features)] if divides else node.attrs["axes"]
        absolute = node.op == "ReduceL1" or (divides and node.attrs.get("p", 2) == 1)
        terms = append(graph, *(("Abs", [features]) if absolute else ("Mul", [features, features])), like)
        numbers = gs.Constant(f"{node.name}/axes", np.array(axes, np.int64))
        result = append(graph, "ReduceSum", [terms, numbers], like, {"keepdims": node.attrs.get("keepdims", 1)})
        if not absolute and node.op != "ReduceSumSquare":
            result = append(graph, "Sqrt", [result], like)
        replace(graph, like, append(graph, "Div", [features, result], like) if divides else result)
        node.outputs.clear()


def _rank(tensor: gs.Tensor) -> int:
    return len(tensor.shape or "NCHW")
