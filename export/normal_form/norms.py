"""Normalisations written with means, sums and products: BatchNorm that stands alone, LayerNorm, GroupNorm, instance norm, L2."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import affine, append, producer, replace


def batch_norm_by_scale(graph: gs.Graph) -> None:
    """Replaces BatchNorm that no convolution took in by a product and a sum per channel.

    So is a pre-activation network's, between a sum and a ReLU, and that of pooled features [N, C] beside no linear layer.
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
    """Writes instance normalisation, (x - mean) / √(variance + ε) · scale + shift, with means: TensorFlow has no operator for it."""
    for node in [node for node in graph.nodes if node.op == "InstanceNormalization"]:
        features, *values = node.inputs
        rank = _rank(features)  # in files from elsewhere also [N, G, L], the groups of GroupNorm
        scale, shift = (
            gs.Constant(f"{node.name}/{part}", value.values.reshape(1, -1, *[1] * (rank - 2)))
            for part, value in zip(("scale", "shift"), values, strict=True)
        )
        epsilon = gs.Constant(f"{node.name}/epsilon", np.array(node.attrs.get("epsilon", 1e-5), np.float32))
        mean = {"axes": list(range(2, rank)), "keepdims": 1}
        like = node.outputs[0]
        centred = append(graph, "Sub", [features, append(graph, "ReduceMean", [features], like, mean)], like)
        squares = append(graph, "Mul", [centred, centred], like)
        variance = append(graph, "ReduceMean", [squares], like, mean)
        deviation = append(graph, "Sqrt", [append(graph, "Add", [variance, epsilon], like)], like)
        factor = append(graph, "Div", [scale, deviation], like)
        scaled = append(graph, "Mul", [centred, factor], like)
        replace(graph, node.outputs[0], append(graph, "Add", [scaled, shift], like))


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
    """Replaces GroupNorm (arXiv 1803.08494) by instance normalisation of the groups, then a scale and a shift per channel."""
    for node in [node for node in graph.nodes if node.op == "GroupNormalization"]:
        features, scale, shift = node.inputs
        groups, shape, like = node.attrs["num_groups"], list(features.shape[1:]), node.outputs[0]
        grouped = _reshaped(graph, node, features, [-1, groups, int(np.prod(shape)) // groups])
        ones = (gs.Constant(f"{node.name}/{v}", np.full(groups, v, np.float32)) for v in (1, 0))
        epsilon = {"epsilon": node.attrs.get("epsilon", 1e-5)}
        normalised = append(graph, "InstanceNormalization", [grouped, *ones], like, epsilon)
        normalised = _reshaped(graph, node, normalised, [-1, *shape])
        # One value per group up to opset 20, one per channel since.
        each = [
            np.repeat(v.values, shape[0] // len(v.values)).reshape(-1, *[1] * (len(shape) - 1)) for v in (scale, shift)
        ]
        factor, offset = (
            gs.Constant(f"{node.name}/{part}", v) for part, v in zip(("scale", "shift"), each, strict=True)
        )
        replace(graph, like, append(graph, "Add", [append(graph, "Mul", [normalised, factor], like), offset], like))
        node.outputs.clear()


def _reshaped(graph: gs.Graph, node: gs.Node, tensor: gs.Tensor, shape: list[int]) -> gs.Variable:
    constant = gs.Constant(f"{node.name}/{len(shape)}d", np.array(shape, np.int64))
    return append(graph, "Reshape", [tensor, constant], node.outputs[0])


def layer_norm_by_means(graph: gs.Graph) -> None:
    """Replaces LayerNorm (arXiv 1607.06450) by (x - mean) / √(variance + ε) · scale + shift over the last axes."""
    for node in [node for node in graph.nodes if node.op == "LayerNormalization"]:
        features, scale, *shift = node.inputs
        rank, like = _rank(features), node.outputs[0]
        axes = list(range(node.attrs.get("axis", -1) % rank, rank))
        normalised = _standardised(graph, node, features, axes)
        result = append(graph, "Mul", [normalised, scale], like)
        replace(graph, like, append(graph, "Add", [result, *shift], like) if shift else result)
        node.outputs.clear()


def _standardised(graph: gs.Graph, node: gs.Node, features: gs.Tensor, axes: list[int]) -> gs.Variable:
    """(x - mean) / √(variance + ε) over axes."""
    like, mean = node.outputs[0], {"axes": axes, "keepdims": 1}
    epsilon = gs.Constant(f"{node.name}/epsilon", np.array(node.attrs.get("epsilon", 1e-5), np.float32))
    centred = append(graph, "Sub", [features, append(graph, "ReduceMean", [features], like, mean)], like)
    variance = append(graph, "ReduceMean", [append(graph, "Mul", [centred, centred], like)], like, mean)
    deviation = append(graph, "Sqrt", [append(graph, "Add", [variance, epsilon], like)], like)
    return append(graph, "Div", [centred, deviation], like)


def lengths_by_sums(graph: gs.Graph) -> None:
    """Replaces Euclidean lengths and sums of squares, and the division by such a length, by sums of products."""
    for node in [node for node in graph.nodes if node.op in ("ReduceL2", "ReduceSumSquare", "LpNormalization")]:
        [features], like = node.inputs, node.outputs[0]
        if node.op == "LpNormalization":
            if node.attrs.get("p", 2) != 2:
                continue
            axes, keep = [node.attrs.get("axis", -1) % _rank(features)], 1
        else:
            axes, keep = node.attrs["axes"], node.attrs.get("keepdims", 1)
        squares = append(graph, "Mul", [features, features], like)
        numbers = gs.Constant(f"{node.name}/axes", np.array(axes, np.int64))
        total = append(graph, "ReduceSum", [squares, numbers], like, {"keepdims": keep})
        if node.op != "ReduceSumSquare":
            total = append(graph, "Sqrt", [total], like)
        if node.op == "LpNormalization":
            total = append(graph, "Div", [features, total], like)
        replace(graph, like, total)
        node.outputs.clear()


def _rank(tensor: gs.Tensor) -> int:
    return len(tensor.shape or "NCHW")
