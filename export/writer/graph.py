"""Normal form → TensorFlow graph, operator by operator, in the patterns that TensorFlow's optimiser fuses.

A convolution is one Conv2D and one BiasAdd, its padding is an attribute, and a ReLU follows it directly: both TensorFlow
2.2 and the current TensorFlow fuse the three into one kernel. Maps are channels-last, so no Transpose is needed. Nodes are
named as in the ONNX file. Weights are placeholders here, which `export/writer/save.py` replaces by constants or variables, so
no graph is ever copied together with a network's weights.

This module imports TensorFlow; the rest of `export` imports it inside functions.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from export.quiet_tensorflow import import_tensorflow
from zoo.errors import ExportError
from zoo.specs import PreprocessSpec

tf = import_tensorflow()

PIXELS = "pixels"
"""The graph's input: float32 [N, H, W, 3], RGB, 0 to 255."""
DYNAMIC = (None, None, None, 3)
_LAST = {0: 0, 1: 3, 2: 1, 3: 2}
"""The channels-last position of each axis of [N, C, H, W]."""
SMALL = 16
"""Constants of at most this many numbers are stored in the graph itself; TensorFlow folds them."""


@dataclass(frozen=True)
class NetworkGraph:
    """A network as a TensorFlow graph with separate weights.

    Attributes:
        graph_def: a GraphDef with the placeholder `PIXELS` and one placeholder per weight.
        outputs: names of the tensors that are its outputs, in the ONNX file's order.
        weights: the arrays for the placeholders, by node name.
    """

    graph_def: Any
    outputs: list[str]
    weights: dict[str, np.ndarray]


def tensorflow_graph(
    model: onnx.ModelProto, spec: PreprocessSpec, shape: tuple[int | None, ...] = DYNAMIC
) -> NetworkGraph:
    """Writes a normal form as a TensorFlow graph, preceded by the normalisation of pixels.

    Args:
        model: a normal form (`export/normal_form/rewrites.py`).
        spec: mean, standard deviation and channel order of the network's input.
        shape: [N, H, W, 3] of the pixels; None for a dynamic size.

    Raises:
        ExportError: an operator that the normal form does not have.
    """
    graph = tf.Graph()
    with graph.as_default():
        builder = _Builder({i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer})
        pixels = tf.compat.v1.placeholder(tf.float32, shape, PIXELS)
        if shape != DYNAMIC:
            # Grappler ignores the shapes of fed tensors; given this one, the current TensorFlow also fuses the residual sums.
            pixels = tf.ensure_shape(pixels, shape, name="preprocess/shape")
        builder.values[model.graph.input[0].name] = _normalised(pixels, spec)
        for node in model.graph.node:
            builder.add(node)
        outputs = [builder.values[output.name] for output in model.graph.output]
    return NetworkGraph(graph.as_graph_def(), [tensor.name for tensor in outputs], builder.weights)


def _normalised(pixels: Any, spec: PreprocessSpec) -> Any:
    """`zoo.preprocess.normalise`, the same three float32 operations."""
    if spec.channels == "bgr":
        pixels = tf.reverse(pixels, axis=[-1], name="preprocess/bgr")
    unit = tf.divide(pixels, tf.constant(255.0, name="preprocess/largest"), name="preprocess/unit")
    centred = tf.subtract(unit, tf.constant(spec.mean, name="preprocess/mean"), name="preprocess/centred")
    return tf.divide(centred, tf.constant(spec.std, name="preprocess/std"), name="preprocess/normalised")


class _Builder:
    """Adds nodes to the default graph; `values` maps the ONNX file's tensors to TensorFlow's."""

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.constants = constants
        self.values: dict[str, Any] = {}
        self.weights: dict[str, np.ndarray] = {}
        self._shared: dict[tuple, Any] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """One ONNX node."""
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        write = _OPERATORS.get(node.op_type)
        if write is None:
            raise ExportError(f"the normal form has no operator {node.op_type!r}, found at {node.name!r}")
        results = write(self, node, attributes)
        for name, value in zip(node.output, results if isinstance(results, list) else [results], strict=True):
            self.values[name] = value

    def tensor(self, name: str, maps: bool = False) -> Any:
        """A value or a constant; with `maps`, a constant of four dimensions is combined with maps."""
        if name in self.values:
            return self.values[name]
        array = self.constants[name]
        return self.constant(name, array.transpose(0, 2, 3, 1) if maps and array.ndim == 4 else array)

    def constant(self, name: str, array: np.ndarray) -> Any:
        """The only node for an array: a constant if it is small, otherwise a placeholder."""
        array = np.ascontiguousarray(array)
        key = array.dtype.str, array.shape, hashlib.sha256(array).digest()
        if key not in self._shared:
            label = node_name(name)
            if array.size > SMALL:
                self._shared[key] = tf.compat.v1.placeholder(array.dtype, array.shape, label)
                self.weights[self._shared[key].op.name] = array
            else:
                self._shared[key] = tf.constant(array, name=label)
        return self._shared[key]

    def kernel(self, name: str) -> Any:
        """A convolution's weights [out, in, K, K] as TensorFlow has them: [K, K, in, out]."""
        return self.constant(name, self.constants[name].transpose(2, 3, 1, 0))


def node_name(name: str) -> str:
    """An ONNX name without characters that TensorFlow forbids in node names."""
    cleaned = re.sub(r"[^A-Za-z0-9_./-]", "_", name).strip("/")
    return cleaned if re.match(r"[A-Za-z0-9.]", cleaned) else f"node{cleaned}"


def _convolution(builder: _Builder, node: onnx.NodeProto, attributes: dict) -> Any:
    features, kernel, *bias = node.input
    label, pads = node_name(node.name), attributes.get("pads", [0, 0, 0, 0])
    same = attributes.get("auto_pad") == b"SAME_UPPER"
    explicit = (
        {} if same or not any(pads) else {"explicit_paddings": [number for pair in _pads(pads) for number in pair]}
    )
    convolved = tf.raw_ops.Conv2D(
        input=builder.values[features],
        filter=builder.kernel(kernel),
        strides=[1, *attributes.get("strides", [1, 1]), 1],
        dilations=[1, *attributes.get("dilations", [1, 1]), 1],
        padding="SAME" if same else "EXPLICIT" if explicit else "VALID",
        **explicit,
        name=label,
    )
    if not bias:
        return convolved
    return tf.raw_ops.BiasAdd(value=convolved, bias=builder.tensor(bias[0]), name=f"{label}/BiasAdd")


def _pads(pads: list[int]) -> list[list[int]]:
    """ONNX's padding of a map's two sides → TensorFlow's of [N, H, W, C]."""
    top, left, bottom, right = pads
    return [[0, 0], [top, bottom], [left, right], [0, 0]]


def _pool(operation: Callable[..., Any], argument: str) -> Callable:
    def write(builder: _Builder, node: onnx.NodeProto, attributes: dict) -> Any:
        features, label, pads = builder.values[node.input[0]], node_name(node.name), attributes.get("pads", [0])
        if any(pads):  # only max pooling needs this: the normal form pads averages explicitly
            lowest = tf.constant(np.finfo(np.float32).min, name=f"{label}/lowest")
            amounts = tf.constant(_pads(pads), tf.int32, name=f"{label}/amounts")
            features = tf.raw_ops.PadV2(input=features, paddings=amounts, constant_values=lowest, name=f"{label}/pad")
        return operation(
            **{argument: features},
            ksize=[1, *attributes["kernel_shape"], 1],
            strides=[1, *attributes["strides"], 1],
            padding="SAME" if attributes.get("auto_pad") == b"SAME_UPPER" else "VALID",
            name=label,
        )

    return write


def _pad(builder: _Builder, node: onnx.NodeProto, _: dict) -> Any:
    amounts = builder.constants[node.input[1]].reshape(2, 4)[:, 2:].reshape(-1).tolist()
    label = node_name(node.name)
    paddings = tf.constant(_pads(amounts), tf.int32, name=f"{label}/amounts")
    return tf.raw_ops.Pad(input=builder.values[node.input[0]], paddings=paddings, name=label)


def _elementwise(operation: Callable[..., Any], *arguments: str) -> Callable:
    def write(builder: _Builder, node: onnx.NodeProto, _: dict) -> Any:
        inputs = {key: builder.tensor(name, maps=True) for key, name in zip(arguments, node.input, strict=True)}
        return operation(**inputs, name=node_name(node.name))

    return write


def _maximum(builder: _Builder, node: onnx.NodeProto, _: dict) -> Any:
    first, *others = (builder.values[name] for name in node.input)
    for index, other in enumerate(others):
        first = tf.raw_ops.Maximum(x=first, y=other, name=f"{node_name(node.name)}/max{index}")
    return first


def _clip(builder: _Builder, node: onnx.NodeProto, _: dict) -> Any:
    value, low, *high = node.input
    if any(high) and builder.constants[high[0]] < np.finfo(np.float32).max:
        raise ExportError(f"the normal form clips from below alone; {node.name!r} has an upper bound")
    return tf.raw_ops.Maximum(x=builder.values[value], y=builder.tensor(low), name=node_name(node.name))


def _reduce(operation: Callable[..., Any]) -> Callable:
    def write(builder: _Builder, node: onnx.NodeProto, attributes: dict) -> Any:
        value = builder.values[node.input[0]]
        axes = attributes["axes"] if "axes" in attributes else builder.constants[node.input[1]].tolist()
        axes = [_LAST[axis] if value.shape.rank == 4 else axis for axis in axes]
        label = node_name(node.name)
        return operation(
            input=value,
            axis=tf.constant(axes, tf.int32, name=f"{label}/axes"),
            keep_dims=bool(attributes.get("keepdims", 1)),
            name=label,
        )

    return write


def _split(builder: _Builder, node: onnx.NodeProto, _: dict) -> list:
    sizes, label = builder.constants[node.input[1]], node_name(node.name)
    return tf.raw_ops.SplitV(
        value=builder.values[node.input[0]],
        size_splits=tf.constant(sizes, tf.int32, name=f"{label}/sizes"),
        axis=tf.constant(3, name=f"{label}/axis"),
        num_split=len(sizes),
        name=label,
    )


def _concat(builder: _Builder, node: onnx.NodeProto, _: dict) -> Any:
    values, label = [builder.values[name] for name in node.input], node_name(node.name)
    last = tf.constant(values[0].shape.rank - 1, name=f"{label}/axis")
    return tf.raw_ops.ConcatV2(values=values, axis=last, name=label)


def _squeeze(builder: _Builder, node: onnx.NodeProto, _: dict) -> Any:
    axes = [_LAST[axis] for axis in builder.constants[node.input[1]].tolist()]
    return tf.raw_ops.Squeeze(input=builder.values[node.input[0]], axis=axes, name=node_name(node.name))


_OPERATORS: dict[str, Callable] = {
    "Add": _elementwise(tf.raw_ops.AddV2, "x", "y"),
    "AveragePool": _pool(tf.raw_ops.AvgPool, "value"),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _elementwise(tf.raw_ops.RealDiv, "x", "y"),
    "Exp": _elementwise(tf.raw_ops.Exp, "x"),
    "Log": _elementwise(tf.raw_ops.Log, "x"),
    "Max": _maximum,
    "MaxPool": _pool(tf.raw_ops.MaxPool, "input"),
    "Mul": _elementwise(tf.raw_ops.Mul, "x", "y"),
    "Pad": _pad,
    "Pow": _elementwise(tf.raw_ops.Pow, "x", "y"),
    "ReduceMax": _reduce(tf.raw_ops.Max),
    "ReduceMean": _reduce(tf.raw_ops.Mean),
    "ReduceSum": _reduce(tf.raw_ops.Sum),
    "Relu": _elementwise(tf.raw_ops.Relu, "features"),
    "Sigmoid": _elementwise(tf.raw_ops.Sigmoid, "x"),
    "Split": _split,
    "Sqrt": _elementwise(tf.raw_ops.Sqrt, "x"),
    "Squeeze": _squeeze,
    "Sub": _elementwise(tf.raw_ops.Sub, "x", "y"),
}
