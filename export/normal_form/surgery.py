"""Edits of a graph: add nodes, copy convolutions, rename and reconnect tensors."""

import itertools

import numpy as np
import onnx_graphsurgeon as gs

from zoo.errors import ExportError

PART = "/part{}"
"""Suffix of a tensor's parts, if it was split along its channels; `find_divergence` joins them again."""


def append(graph: gs.Graph, op: str, inputs: list, like: gs.Tensor, attrs: dict | None = None) -> gs.Variable:
    """Adds a node with one float32 output, named after a related tensor."""
    name, taken = f"{like.name}/{op.lower()}", {node.name for node in graph.nodes}
    # Counted per file, so that the result does not depend on files rewritten before.
    name = next(n for n in itertools.chain([name], (f"{name}{i}" for i in itertools.count(2))) if n not in taken)
    output = gs.Variable(name, np.float32)
    graph.nodes.append(gs.Node(op, name, attrs or {}, list(inputs), [output]))
    return output


def convolution(
    graph: gs.Graph, like: gs.Node, part: str, tensor: gs.Tensor, weight: np.ndarray, bias: np.ndarray | None = None
) -> gs.Variable:
    """A copy of a convolution with different weights and one group."""
    name = f"{like.name}/{part}"
    values = [gs.Constant(f"{name}/weight", np.ascontiguousarray(weight))]
    if bias is not None:
        values.append(gs.Constant(f"{name}/bias", np.ascontiguousarray(bias)))
    output = gs.Variable(name, np.float32)
    graph.nodes.append(gs.Node("Conv", name, {**like.attrs, "group": 1}, [tensor, *values], [output]))
    return output


def pointwise(graph: gs.Graph, node: gs.Node, value: gs.Tensor, weight: np.ndarray, bias: np.ndarray) -> gs.Variable:
    """A 1×1 convolution of a map, in place of a node that is a linear layer with this weight [out, in] and bias [out]."""
    kernel, shift = (
        gs.Constant(f"{node.name}/{part}", np.ascontiguousarray(values, np.float32))
        for part, values in (("weight", weight[:, :, None, None]), ("bias", bias))
    )
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0]}
    return append(graph, "Conv", [value, kernel, shift], node.outputs[0], attributes)


def constant(node: gs.Node, part: str, values: np.ndarray) -> gs.Constant:
    return gs.Constant(f"{node.name}/{part}", values)


def numbers(node: gs.Node, position: int) -> list[int]:
    """The integers that are a node's input.

    Raises:
        ExportError: they are computed.
    """
    tensor = node.inputs[position]
    if not isinstance(tensor, gs.Constant):
        raise ExportError(f"{node.op} at {node.name!r} computes {tensor.name!r}, which must be a constant")
    return [int(number) for number in tensor.values.reshape(-1)]


def dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights [out, in / groups, K, K] of a grouped convolution → [out, in, K, K], zero between the groups."""
    out, each = weight.shape[:2]
    dense = np.zeros((out, each * groups, *weight.shape[2:]), weight.dtype)
    for group, rows in enumerate(np.split(np.arange(out), groups)):
        dense[rows, group * each : (group + 1) * each] = weight[rows]
    return dense


def affine(norm: gs.Node) -> tuple[np.ndarray, np.ndarray]:
    """A BatchNormalization node's scale and shift, float64 [C] each."""
    weight, bias, mean, variance = (value.values.astype(np.float64) for value in norm.inputs[1:5])
    scale = weight / np.sqrt(variance + norm.attrs.get("epsilon", 1e-5))
    return scale, bias - mean * scale


def producer(tensor: gs.Tensor, op: str) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op == op else None


def name_parts(tensor: gs.Variable, parts: list[gs.Variable]) -> None:
    for index, part in enumerate(parts):
        part.name = tensor.name + PART.format(index)


def replace(graph: gs.Graph, old: gs.Variable, new: gs.Variable) -> None:
    """Connects the readers of `old` to `new`, which has the same values and takes over its name."""
    rewire(graph, old, new)
    old.name, new.name = f"{old.name}/before", old.name
    new.shape = new.shape or old.shape


def rewire(graph: gs.Graph, old: gs.Variable, new: gs.Variable) -> None:
    """Connects the readers of `old` to `new`."""
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]
    graph.outputs = [new if tensor is old else tensor for tensor in graph.outputs]
