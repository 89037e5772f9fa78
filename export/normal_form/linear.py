"""Linear layers as 1×1 convolutions: the operator that every TensorFlow is fastest at, with its bias in the same kernel."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, pointwise, replace


def linear_layers_as_convolutions(graph: gs.Graph) -> None:
    """Replaces products with weights over the last axis of [N, C], [N, L, C] or [N, H, W, C] by 1×1 convolutions.

    The axes are moved to [N, C, H, W] and back. TensorFlow's maps are channels-last, so the writer moves nothing.
    """
    for node in [node for node in graph.nodes if node.op in ("MatMul", "Gemm")]:
        if not isinstance(node.inputs[1], gs.Constant) or node.inputs[1].values.ndim != 2:
            continue
        layer = _layer(node)
        if layer is None or len(node.inputs[0].shape) not in _TO_MAPS:
            continue
        weight, bias, last = layer
        rank = len(node.inputs[0].shape)
        value = pointwise(graph, node, _moved(graph, node, node.inputs[0], _TO_MAPS[rank]), weight, bias)
        replace(graph, last.outputs[0], _moved(graph, node, value, _FROM_MAPS[rank]))
        last.outputs.clear()


_TO_MAPS: dict[int, list[tuple[str, list[int]]]] = {
    2: [("Unsqueeze", [2, 3])],
    3: [("Transpose", [0, 2, 1]), ("Unsqueeze", [3])],
    4: [("Transpose", [0, 3, 1, 2])],
}
_FROM_MAPS: dict[int, list[tuple[str, list[int]]]] = {
    2: [("Squeeze", [2, 3])],
    3: [("Squeeze", [3]), ("Transpose", [0, 2, 1])],
    4: [("Transpose", [0, 2, 3, 1])],
}


def _moved(graph: gs.Graph, node: gs.Node, value: gs.Tensor, steps: list[tuple[str, list[int]]]) -> gs.Tensor:
    for op, numbers in steps:
        axes = gs.Constant(f"{node.name}/{op.lower()}_axes", np.array(numbers, np.int64))
        inputs, attributes = ([value], {"perm": numbers}) if op == "Transpose" else ([value, axes], {})
        value = append(graph, op, inputs, node.outputs[0], attributes)
    return value


def _layer(node: gs.Node) -> tuple[np.ndarray, np.ndarray, gs.Node] | None:
    """The weight [out, in] and bias [out] of a linear layer, and the last node that belongs to it; None if it is another product."""
    weight = node.inputs[1].values
    if node.op == "Gemm":
        if node.attrs.get("transA") or (len(node.inputs) > 2 and not isinstance(node.inputs[2], gs.Constant)):
            return None
        weight = node.attrs.get("alpha", 1.0) * (weight if node.attrs.get("transB") else weight.T)
        bias = node.inputs[2].values * node.attrs.get("beta", 1.0) if len(node.inputs) > 2 else np.zeros(1, np.float32)
        return weight, np.broadcast_to(bias.reshape(-1), len(weight)), node
    weight, readers = weight.T, node.outputs[0].outputs
    if len(readers) == 1 and readers[0].op == "Add":
        others = [tensor for tensor in readers[0].inputs if tensor is not node.outputs[0]]
        if others and isinstance(others[0], gs.Constant) and others[0].values.shape in ((len(weight),), ()):
            return weight, np.broadcast_to(others[0].values, len(weight)), readers[0]
    return weight, np.zeros(len(weight), np.float32), node
