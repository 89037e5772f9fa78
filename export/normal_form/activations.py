"""Activations that TensorFlow 2.2 has no operator for, written with operators that it has."""

import math
from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, constant, replace


def activations_by_simpler_ones(graph: gs.Graph) -> None:
    """Replaces HardSigmoid, HardSwish (arXiv 1905.02244), Gelu (1606.08415), Mish (1908.08681), PRelu (1502.01852), Celu
    (1704.07483), ThresholdedRelu (1402.3337), and Elu and Selu with other numbers than the usual ones, by their formulas."""
    for node in [node for node in graph.nodes if node.op in _FORMULAS]:
        if (result := _FORMULAS[node.op](graph, node)) is not None:
            replace(graph, node.outputs[0], result)
            node.outputs.clear()


def leaky_relu_behind_sums(graph: gs.Graph) -> None:
    """Replaces LeakyRelu (x for x > 0, else αx) of a sum by max(x, αx), or min(x, αx) if α > 1.

    TensorFlow with oneDNN fuses a convolution, the sum with its result, and LeakyRelu to one operator, which forgets α: seen in 2.19.
    A rewrite of its own, after those that make sums of norms.
    """
    for node in [node for node in graph.nodes if node.op == "LeakyRelu"]:
        (x,), like, slope = node.inputs, node.outputs[0], node.attrs.get("alpha", 0.01)
        if not x.inputs or x.inputs[0].op not in ("Add", "Sum"):
            continue
        scaled = append(graph, "Mul", [x, _number(graph, node, slope)], like)
        replace(graph, like, append(graph, "Max" if slope <= 1 else "Min", [x, scaled], like))
        node.outputs.clear()


def _number(graph: gs.Graph, node: gs.Node, value: float) -> gs.Constant:
    return gs.Constant(f"{node.name}/{value:.7g}", np.array(value, np.float32))


def _gate(graph: gs.Graph, node: gs.Node, slope: float, offset: float) -> gs.Variable:
    """min(max(slope · x + offset, 0), 1), as slope · min(max(x + offset / slope, 0), 1 / slope): a ReLU6 if the slope is 1/6."""
    like, (x, *_) = node.outputs[0], node.inputs
    moved = append(graph, "Add", [x, _number(graph, node, offset / slope)], like)
    limits = [_number(graph, node, 0), _number(graph, node, float(np.float32(1 / np.float32(slope))))]
    clipped = append(graph, "Clip", [moved, *limits], like)
    return append(graph, "Mul", [clipped, _number(graph, node, slope)], like)


def _hard_sigmoid(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    return _gate(graph, node, node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5))


def _hard_swish(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    return append(graph, "Mul", [node.inputs[0], _gate(graph, node, 1 / 6, 0.5)], node.outputs[0])


def _gelu(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    """x / 2 · (1 + erf(x / √2)), or its approximation with tanh."""
    like, (x, *_) = node.outputs[0], node.inputs
    if node.attrs.get("approximate", "none") == "tanh":
        cube = append(graph, "Mul", [append(graph, "Mul", [x, x], like), x], like)
        inner = append(graph, "Add", [x, append(graph, "Mul", [cube, _number(graph, node, 0.044715)], like)], like)
        bent = append(
            graph, "Tanh", [append(graph, "Mul", [inner, _number(graph, node, math.sqrt(2 / math.pi))], like)], like
        )
    else:
        bent = append(graph, "Erf", [append(graph, "Mul", [x, _number(graph, node, math.sqrt(0.5))], like)], like)
    half = append(graph, "Mul", [x, _number(graph, node, 0.5)], like)
    return append(graph, "Mul", [half, append(graph, "Add", [bent, _number(graph, node, 1)], like)], like)


def _mish(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    """x · tanh(log(1 + exp(x)))."""
    like, (x, *_) = node.outputs[0], node.inputs
    return append(graph, "Mul", [x, append(graph, "Tanh", [append(graph, "Softplus", [x], like)], like)], like)


def _prelu(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    """max(x, 0) - slope · max(-x, 0)."""
    like, (x, slope) = node.outputs[0], node.inputs
    below = append(graph, "Relu", [append(graph, "Neg", [x], like)], like)
    return append(graph, "Sub", [append(graph, "Relu", [x], like), append(graph, "Mul", [slope, below], like)], like)


def _elu(graph: gs.Graph, node: gs.Node) -> gs.Variable | None:
    """max(x, 0) + alpha · Elu(min(x, 0))."""
    alpha, like, (x, *_) = node.attrs.pop("alpha", 1.0), node.outputs[0], node.inputs
    if alpha == 1:
        return None
    below = append(graph, "Elu", [append(graph, "Min", [x, _number(graph, node, 0)], like)], like)
    scaled = append(graph, "Mul", [below, _number(graph, node, alpha)], like)
    return append(graph, "Add", [append(graph, "Relu", [x], like), scaled], like)


def _celu(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    """max(x, 0) + alpha · Elu(min(x, 0) / alpha)."""
    like, (x, *_) = node.outputs[0], node.inputs
    alpha = _number(graph, node, node.attrs.get("alpha", 1.0))
    below = append(graph, "Min", [x, constant(node, "zero", np.zeros((), np.float32))], like)
    bent = append(graph, "Elu", [append(graph, "Div", [below, alpha], like)], like)
    return append(graph, "Add", [append(graph, "Relu", [x], like), append(graph, "Mul", [bent, alpha], like)], like)


def _thresholded_relu(graph: gs.Graph, node: gs.Node) -> gs.Variable:
    """x · max(sign(x - alpha), 0)."""
    like, (x, *_) = node.outputs[0], node.inputs
    beyond = append(graph, "Sub", [x, _number(graph, node, node.attrs.get("alpha", 1.0))], like)
    taken = append(graph, "Relu", [append(graph, "Sign", [beyond], like)], like)
    return append(graph, "Mul", [x, taken], like)


def _selu(graph: gs.Graph, node: gs.Node) -> gs.Variable | None:
    """gamma · (max(x, 0) + alpha · Elu(min(x, 0))) (arXiv 1706.02515), unless the numbers are the usual ones."""
    alpha, gamma = node.attrs.pop("alpha", _SELU[0]), node.attrs.pop("gamma", _SELU[1])
    if np.allclose((alpha, gamma), _SELU, rtol=1e-6, atol=0):
        return None
    node.attrs["alpha"] = alpha
    result = _elu(graph, node) or append(graph, "Elu", node.inputs[:1], node.outputs[0])
    return append(graph, "Mul", [result, _number(graph, node, gamma)], node.outputs[0])


_SELU = (1.67326319217681884765625, 1.05070102214813232421875)
_FORMULAS: dict[str, Callable[[gs.Graph, gs.Node], gs.Variable | None]] = {
    "Celu": _celu,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Mish": _mish,
    "PRelu": _prelu,
    "Selu": _selu,
    "ThresholdedRelu": _thresholded_relu,
}
