"""Normal form → TensorFlow graph, operator by operator, in the patterns that TensorFlow's optimiser fuses.

A convolution is one Conv2D and one BiasAdd, its padding is an attribute, and a ReLU follows it directly: both TensorFlow
2.2 and the current TensorFlow fuse the three into one kernel. Maps are channels-last, so no Transpose is needed. Nodes are
named as in the ONNX file. Weights are placeholders here, which `export/writer/save.py` replaces by constants or variables, so
no graph is ever copied together with a network's weights.

This module imports TensorFlow; the rest of `export` imports it inside functions.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from export.quiet_tensorflow import import_tensorflow
from export.writer.operators import WRITERS, attributes, refusal
from export.writer.values import MAPS, Value
from zoo.specs import PreprocessSpec

tf = import_tensorflow()

PIXELS = "pixels"
"""The graph's input: float32 [N, H, W, 3], RGB, 0 to 255."""
DYNAMIC = (None, None, None, 3)
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
        ExportError: an operator, or a form of it, that has no writer (`export/writer/operators.py`).
    """
    graph = tf.Graph()
    with graph.as_default():
        builder = Builder({i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer})
        pixels = tf.compat.v1.placeholder(tf.float32, shape, PIXELS)
        if shape != DYNAMIC:
            # Grappler ignores the shapes of fed tensors; given this one, the current TensorFlow also fuses the residual sums.
            pixels = tf.ensure_shape(pixels, shape, name="preprocess/shape")
        builder.values[model.graph.input[0].name] = Value(_normalised(pixels, spec), MAPS)
        for node in model.graph.node:
            builder.add(node)
        outputs = [builder.values[output.name] for output in model.graph.output]
        # Maps, which only `find_divergence` asks for, stay channels-last.
        tensors = [value.tensor if value.rank == len(MAPS) else value.plain(value.tensor.op.name) for value in outputs]
    return NetworkGraph(graph.as_graph_def(), [tensor.name for tensor in tensors], builder.weights)


def _normalised(pixels: Any, spec: PreprocessSpec) -> Any:
    """`zoo.preprocess.normalise`, the same three float32 operations."""
    if spec.channels == "bgr":
        pixels = tf.reverse(pixels, axis=[-1], name="preprocess/bgr")
    unit = tf.divide(pixels, tf.constant(255.0, name="preprocess/largest"), name="preprocess/unit")
    centred = tf.subtract(unit, tf.constant(spec.mean, name="preprocess/mean"), name="preprocess/centred")
    return tf.divide(centred, tf.constant(spec.std, name="preprocess/std"), name="preprocess/normalised")


class Builder:
    """Adds nodes to the default graph (`export.writer.operators.Graph`).

    Attributes:
        constants: arrays by their names in the ONNX file.
        values: what has been computed, by the same names.
        weights: arrays for the graph's placeholders, by node name.
    """

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.constants = constants
        self.values: dict[str, Value] = {}
        self.weights: dict[str, np.ndarray] = {}
        self._shared: dict[tuple, Any] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """One ONNX node.

        Raises:
            ExportError: its operator, or this form of it, is not known.
        """
        write = WRITERS.get(node.op_type)
        if write is None:
            raise refusal(node, "it has no such operator, and no rewrite replaces it")
        try:
            results = write(self, node, node_name(node.name))
        except KeyError as error:
            raise refusal(node, f"it needs a constant and computes it, {error}") from error
        except (ValueError, IndexError, TypeError) as error:  # for example shapes that do not fit
            raise refusal(node, str(error).splitlines()[0]) from error
        # MaxPool may have a second output, the places of its maxima; whoever reads it is refused.
        self.values |= dict(zip(node.output, results if isinstance(results, list) else [results], strict=False))

    def operand(self, name: str) -> Value | np.ndarray:
        """What a node reads: a value that was computed, or a constant."""
        return self.values[name] if name in self.values else self.constants[name]

    def value(self, name: str) -> Value:
        """What a node reads, as a tensor."""
        if name not in self.values:
            array = self.constants[name]
            return Value(self.constant(name, array), tuple(range(array.ndim)))
        return self.values[name]

    def numbers(self, node: onnx.NodeProto, name: str, position: int) -> list | None:
        """Numbers that are an attribute in older opsets and a constant input in newer ones; None if they are left out."""
        if name in (given := attributes(node)):
            return np.atleast_1d(given[name]).tolist()
        if len(node.input) <= position or not node.input[position]:
            return None
        return self.constants[node.input[position]].reshape(-1).tolist()

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


def node_name(name: str) -> str:
    """An ONNX name without characters that TensorFlow forbids in node names."""
    cleaned = re.sub(r"[^A-Za-z0-9_./-]", "_", name).strip("/")
    return cleaned if re.match(r"[A-Za-z0-9.]", cleaned) else f"node{cleaned}"
