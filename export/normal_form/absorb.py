"""Factors and offsets that a convolution can take into its weights and bias."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import rewire

_ABSORBED = ("Mul", "Div", "Add", "Sub")


def constants_into_convolutions(graph: gs.Graph) -> None:
    """Folds a product or a sum with a number per channel, or with a single number, into the convolution before it.

    That is layer scale, or the first step of a hard sigmoid. It saves an operator, and the current TensorFlow needs it: it fuses a
    sum behind a convolution as if the other term were a map, and ends the process if that is a number.
    """
    for node in [node for node in graph.nodes if node.op == "Conv"]:
        while (reader := _only_reader(node)) is not None and (numbers := _per_channel(reader, node)) is not None:
            _fold(node, reader, numbers)
            rewire(graph, reader.outputs[0], node.outputs[0])
            node.outputs[0].name, reader.outputs[0].name = reader.outputs[0].name, f"{reader.outputs[0].name}/absorbed"
            reader.outputs.clear()
            reader.inputs.clear()


def _only_reader(node: gs.Node) -> gs.Node | None:
    [result] = node.outputs
    return result.outputs[0] if len(result.outputs) == 1 and result.outputs[0].op in _ABSORBED else None


def _per_channel(reader: gs.Node, node: gs.Node) -> np.ndarray | None:
    """The constant of a reader as float64 [out] if it has one number, or one per channel, and the map is on the left of - or /."""
    left, right = reader.inputs
    ordered = reader.op in ("Sub", "Div")
    other = right if left is node.outputs[0] else None if ordered else left
    if not isinstance(other, gs.Constant) or other is node.outputs[0]:
        return None
    values, channels = np.asarray(other.values, np.float64), node.inputs[1].values.shape[0]
    if values.size == 1 and values.ndim <= 4:
        return np.full(channels, values.reshape(()))
    # [C, 1, 1] or [1, C, 1, 1]
    if values.ndim in (3, 4) and values.shape[-3:] == (channels, 1, 1) and values.size == channels:
        return values.reshape(-1)
    return None


def _fold(node: gs.Node, reader: gs.Node, numbers: np.ndarray) -> None:
    weight = node.inputs[1].values
    bias = node.inputs[2].values.astype(np.float64) if len(node.inputs) > 2 else np.zeros(len(weight))
    if reader.op in ("Mul", "Div"):
        factors = numbers if reader.op == "Mul" else 1 / numbers
        scaled = (weight * factors.reshape(-1, 1, 1, 1)).astype(np.float32)
        node.inputs[1], bias = gs.Constant(f"{reader.name}/weight", scaled), bias * factors
    else:
        bias = bias + (numbers if reader.op == "Add" else -numbers)
    node.inputs = [*node.inputs[:2], gs.Constant(f"{reader.name}/bias", bias.astype(np.float32))]
