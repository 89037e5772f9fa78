"""What TensorFlow computes for each operator of a normal form.

A writer takes the builder, the node and its name in TensorFlow; it returns a value per output of the node.

This module imports TensorFlow; the rest of `export` imports it inside functions.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import onnx

from export.quiet_tensorflow import import_tensorflow
from export.writer.values import MAPS, Value, combined
from zoo.errors import ExportError

tf = import_tensorflow()


class Graph(Protocol):
    """What writers read and add to: `export.writer.graph.Builder`."""

    constants: dict[str, np.ndarray]

    def operand(self, name: str) -> Value | np.ndarray: ...
    def value(self, name: str) -> Value: ...
    def constant(self, name: str, array: np.ndarray) -> Any: ...
    def numbers(self, node: onnx.NodeProto, name: str, position: int) -> list | None: ...


Writer = Callable[[Graph, onnx.NodeProto, str], Value | list[Value]]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def refusal(node: onnx.NodeProto, why: str) -> ExportError:
    """The error to raise for an operator, or a form of it, that cannot be written."""
    return ExportError(f"{node.op_type} at {node.name!r} cannot be written for TensorFlow: {why}")


def _maps(graph: Graph, node: onnx.NodeProto, label: str) -> Any:
    """A node's first input, channels-last."""
    value = graph.value(node.input[0])
    if value.rank != len(MAPS):
        raise refusal(node, f"it works on a tensor of {value.rank} axes; only maps [N, C, H, W] are supported")
    return value.in_order(MAPS, label).tensor


def _convolution(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    given, (kernel, *bias) = attributes(node), node.input[1:]
    features, weight, groups = _maps(graph, node, label), graph.constants[kernel], given.get("group", 1)
    if groups == 1:
        convolved = _dense(graph, given, features, kernel, label)
    elif weight.shape[1] == 1 and features.shape[-1] == groups:
        convolved = _depthwise(graph, node, given, features, label)
    else:
        raise refusal(node, f"it has {groups} groups, and a normal form has only dense and depthwise convolutions")
    if bias:
        convolved = tf.raw_ops.BiasAdd(
            value=convolved, bias=graph.constant(bias[0], graph.constants[bias[0]]), name=f"{label}/BiasAdd"
        )
    return Value(convolved, MAPS)


def _dense(graph: Graph, given: dict, features: Any, kernel: str, label: str) -> Any:
    same, pads = given.get("auto_pad") == b"SAME_UPPER", given.get("pads", [0, 0, 0, 0])
    explicit = not same and any(pads)
    return tf.raw_ops.Conv2D(
        input=features,
        filter=graph.constant(kernel, graph.constants[kernel].transpose(2, 3, 1, 0)),
        strides=[1, *given.get("strides", [1, 1]), 1],
        dilations=[1, *given.get("dilations", [1, 1]), 1],
        padding="SAME" if same else "EXPLICIT" if explicit else "VALID",
        **({"explicit_paddings": [number for pair in _pads(pads) for number in pair]} if explicit else {}),
        name=label,
    )


def _depthwise(graph: Graph, node: onnx.NodeProto, given: dict, features: Any, label: str) -> Any:
    """TensorFlow 2.2 has no explicit padding for it, no dilation on CPUs and only equal strides."""
    strides, pads = given.get("strides", [1, 1]), given.get("pads", [0, 0, 0, 0])
    same, kernel = given.get("auto_pad") == b"SAME_UPPER", graph.constants[node.input[1]]
    if len(set(strides)) > 1 or set(given.get("dilations", [1])) != {1}:
        raise refusal(node, "a depthwise convolution of a normal form has equal strides and no dilation")
    if not same and any(pads):
        amounts = tf.constant(_pads(pads), tf.int32, name=f"{label}/amounts")
        features = tf.raw_ops.Pad(input=features, paddings=amounts, name=f"{label}/pad")
    # Output channel c · M + m of ONNX is multiple m of input channel c.
    groups = given["group"]
    shaped = kernel.reshape(groups, len(kernel) // groups, *kernel.shape[2:]).transpose(2, 3, 0, 1)
    return tf.raw_ops.DepthwiseConv2dNative(
        input=features,
        filter=graph.constant(node.input[1], shaped),
        strides=[1, *strides, 1],
        padding="SAME" if same else "VALID",
        name=label,
    )


def _pads(pads: Sequence[int]) -> list[list[int]]:
    """ONNX's padding of a map's two sides → TensorFlow's of [N, H, W, C]."""
    top, left, bottom, right = pads
    return [[0, 0], [top, bottom], [left, right], [0, 0]]


def _pool(operation: Callable[..., Any], argument: str) -> Writer:
    def write(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
        given, features = attributes(node), _maps(graph, node, label)
        if given.get("ceil_mode") or set(given.get("dilations", [1])) != {1}:
            raise refusal(node, "a pooling of a normal form rounds down and has no dilation")
        if any(pads := given.get("pads", [0])):  # only max pooling needs this: the normal form pads averages explicitly
            lowest = tf.constant(np.finfo(np.float32).min, name=f"{label}/lowest")
            amounts = tf.constant(_pads(pads), tf.int32, name=f"{label}/amounts")
            features = tf.raw_ops.PadV2(input=features, paddings=amounts, constant_values=lowest, name=f"{label}/pad")
        pooled = operation(
            **{argument: features},
            ksize=[1, *given["kernel_shape"], 1],
            strides=[1, *given.get("strides", [1, 1]), 1],
            padding="SAME" if given.get("auto_pad") == b"SAME_UPPER" else "VALID",
            name=label,
        )
        return Value(pooled, MAPS)

    return write


def _pad(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value, mode = graph.value(node.input[0]), attributes(node).get("mode", b"constant")
    amounts = np.array(graph.numbers(node, "pads", 1)).reshape(2, value.rank).T
    if (amounts < 0).any():
        raise refusal(node, "it cuts (its padding is negative)")
    paddings = tf.constant(value.by_place(amounts.tolist()), tf.int32, name=f"{label}/amounts")
    if mode == b"reflect":
        return Value(
            tf.raw_ops.MirrorPad(input=value.tensor, paddings=paddings, mode="REFLECT", name=label), value.order
        )
    if mode != b"constant":
        raise refusal(node, f"its mode is {mode.decode()!r}, which no rewrite replaces")
    filled = (graph.numbers(node, "value", 2) or [0])[0]
    if not filled:
        return Value(tf.raw_ops.Pad(input=value.tensor, paddings=paddings, name=label), value.order)
    number = tf.constant(filled, tf.float32, name=f"{label}/value")
    padded = tf.raw_ops.PadV2(input=value.tensor, paddings=paddings, constant_values=number, name=label)
    return Value(padded, value.order)


def _unary(operation: Callable[..., Any], argument: str, **defaults: float) -> Writer:
    """`defaults` are ONNX's, which may differ from TensorFlow's."""

    def write(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
        value, given = graph.value(node.input[0]), attributes(node)
        chosen = {name: given.get(name, default) for name, default in defaults.items()}
        return Value(operation(**{argument: value.tensor}, **chosen, name=label), value.order)

    return write


def _binary(operation: Callable[..., Any]) -> Writer:
    def write(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
        (x, y), order = _operands(graph, node, label)
        return Value(operation(x=x, y=y, name=label), order)

    return write


def _operands(graph: Graph, node: onnx.NodeProto, label: str) -> tuple[list[Any], tuple[int, ...]]:
    """A node's inputs as TensorFlow's tensors that broadcast as ONNX's, and the order of their axes."""
    found, order = combined([graph.operand(name) for name in node.input], label)
    named = zip(node.input, found, strict=True)
    return [graph.constant(name, f) if isinstance(f, np.ndarray) else f for name, f in named], order


def _several(operation: Callable[..., Any], part: str) -> Writer:
    """Max, Min and Sum of any number of tensors."""

    def write(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
        (first, *others), order = _operands(graph, node, label)
        for index, other in enumerate(others):
            first = operation(x=first, y=other, name=f"{label}/{part}{index}")
        return Value(first, order)

    return write


def _clip(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value, limits = graph.value(node.input[0]), np.finfo(np.float32)
    [low] = graph.numbers(node, "min", 1) or [limits.min]
    [high] = graph.numbers(node, "max", 2) or [limits.max]
    tensor, above, below = value.tensor, high < limits.max, low > limits.min
    if (low, high) == (0, 6):  # TensorFlow fuses this one with the convolution before it
        return Value(tf.raw_ops.Relu6(features=tensor, name=label), value.order)
    if above:
        bound = tf.constant(high, tf.float32, name=f"{label}/high")
        tensor = tf.raw_ops.Minimum(x=tensor, y=bound, name=f"{label}/below" if below else label)
    if below:
        bound = graph.constant(node.input[1], np.array(low, np.float32))
        tensor = tf.raw_ops.Maximum(x=tensor, y=bound, name=label)
    return Value(tensor, value.order)


def _reduce(operation: Callable[..., Any]) -> Writer:
    def write(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
        value, keep = graph.value(node.input[0]), bool(attributes(node).get("keepdims", 1))
        axes = graph.numbers(node, "axes", 1) or list(range(value.rank))
        places = tf.constant([value.place(axis) for axis in axes], tf.int32, name=f"{label}/axes")
        reduced = operation(input=value.tensor, axis=places, keep_dims=keep, name=label)
        return Value(reduced, value.order) if keep else value.without(axes, reduced)

    return write


def _softmax(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value = graph.value(node.input[0])
    axis = attributes(node).get("axis", -1) % value.rank
    # TensorFlow's works on the last axis.
    order = (*(other for other in value.order if other != axis), axis)
    return Value(tf.raw_ops.Softmax(logits=value.in_order(order, label).tensor, name=label), order)


def _split(graph: Graph, node: onnx.NodeProto, label: str) -> list[Value]:
    value, sizes = graph.value(node.input[0]), graph.numbers(node, "split", 1)
    if sizes is None:
        raise refusal(node, "a Split of a normal form says the sizes of its parts")
    parts = tf.raw_ops.SplitV(
        value=value.tensor,
        size_splits=tf.constant(sizes, tf.int32, name=f"{label}/sizes"),
        axis=tf.constant(value.place(attributes(node).get("axis", 0)), name=f"{label}/axis"),
        num_split=len(sizes),
        name=label,
    )
    return [Value(part, value.order) for part in parts]


def _concat(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    values = [graph.value(name) for name in node.input]
    orders = [value.order for value in values]
    order = MAPS if MAPS in orders else orders[0]
    tensors = [value.in_order(order, f"{label}/{index}").tensor for index, value in enumerate(values)]
    first = Value(tensors[0], order)
    axis = tf.constant(first.place(attributes(node)["axis"]), name=f"{label}/axis")
    return Value(tf.raw_ops.ConcatV2(values=tensors, axis=axis, name=label), order)


def _local_response(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    """TensorFlow sums over `depth_radius` channels on either side, and does not divide alpha by their number, which is odd."""
    given = attributes(node)
    normalised = tf.raw_ops.LRN(
        input=_maps(graph, node, label),
        depth_radius=given["size"] // 2,
        bias=given.get("bias", 1.0),
        alpha=given.get("alpha", 1e-4) / given["size"],
        beta=given.get("beta", 0.75),
        name=label,
    )
    return Value(normalised, MAPS)


def _slice(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value = graph.value(node.input[0])
    starts, ends = (graph.numbers(node, name, place) or [] for place, name in ((1, "starts"), (2, "ends")))
    axes = graph.numbers(node, "axes", 3) or list(range(len(starts)))
    steps = graph.numbers(node, "steps", 4) or [1] * len(axes)
    whole: list[slice] = [slice(None)] * value.rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # ONNX says "to the end" with the largest integers, which TensorFlow's 32 bits cannot hold.
        first, last = (number if abs(number) < 2**31 - 1 else None for number in (start, end))
        whole[axis % value.rank] = slice(first, last, step)
    with tf.name_scope(label):
        return Value(value.tensor[tuple(value.by_place(whole))], value.order)


def _gather(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value, axis = graph.value(node.input[0]), attributes(node).get("axis", 0)
    indices = graph.constants[node.input[1]]
    if indices.ndim > 1:
        raise refusal(node, f"its indices have {indices.ndim} axes; at most 1 is supported")
    length = value.shape[axis]
    if length is None and (indices < 0).any():
        raise refusal(node, "it counts from the end of an axis of unknown length")
    counted = np.where(indices < 0, indices + (length or 0), indices).astype(np.int32)
    place = tf.constant(value.place(axis), name=f"{label}/axis")
    if indices.ndim == 0:
        number = tf.constant(int(counted), name=f"{label}/index")
        found = tf.raw_ops.GatherV2(params=value.tensor, indices=number, axis=place, name=label)
        return value.without([axis], found)
    several = graph.constant(node.input[1], counted)
    return Value(tf.raw_ops.GatherV2(params=value.tensor, indices=several, axis=place, name=label), value.order)


def _squeeze(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value = graph.value(node.input[0])
    axes = graph.numbers(node, "axes", 1) or [axis for axis, length in enumerate(value.shape) if length == 1]
    squeezed = tf.raw_ops.Squeeze(input=value.tensor, axis=[value.place(axis) for axis in axes], name=label)
    return value.without(axes, squeezed)


def _unsqueeze(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value, axes = graph.value(node.input[0]), graph.numbers(node, "axes", 1) or []
    new, old = {axis % (value.rank + len(axes)) for axis in axes}, iter(value.shape)
    shape = [1 if axis in new else next(old) for axis in range(value.rank + len(axes))]
    return value.reshaped([-1 if length is None else length for length in shape], label)


def _reshape(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value, shape = graph.value(node.input[0]), graph.constants[node.input[1]].tolist()
    kept = [value.shape[axis] if length == 0 else length for axis, length in enumerate(shape)]
    return value.reshaped([-1 if length is None else length for length in kept], label)


def _flatten(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value = graph.value(node.input[0])
    axis = attributes(node).get("axis", 1) % value.rank
    if axis != 1:
        raise refusal(node, f"it flattens from axis {axis}; only 1, which keeps the batch, is supported")
    if None in value.shape[1:]:
        raise refusal(node, f"it flattens {value.shape}, of which more than the batch is of unknown size")
    return value.reshaped([-1, int(np.prod(np.array(value.shape[1:])))], label)


def _transpose(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value = graph.value(node.input[0])
    return value.permuted(attributes(node).get("perm", range(value.rank)[::-1]))


def _identity(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    return graph.value(node.input[0])


def _expand(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    value, shape = graph.value(node.input[0]), graph.constants[node.input[1]].tolist()
    if len(shape) > value.rank:
        value = value.reshaped([1] * (len(shape) - value.rank) + [-1 if n is None else n for n in value.shape], label)
    shape = [1] * (value.rank - len(shape)) + shape
    times = [new if old == 1 else 1 for new, old in zip(shape, value.shape, strict=True)]
    multiples = tf.constant(value.by_place(times), tf.int32, name=f"{label}/multiples")
    return Value(tf.raw_ops.Tile(input=value.tensor, multiples=multiples, name=label), value.order)


def _matmul(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    """Of two computed tensors, as in attention; a product with weights is a 1×1 convolution in a normal form."""
    x, y = (graph.value(name) for name in node.input)
    if x.rank != y.rank:
        raise refusal(node, f"it multiplies tensors of {x.rank} and {y.rank} axes; expected as many on both sides")
    left, right = x.plain(f"{label}/x"), y.plain(f"{label}/y")
    return Value(tf.raw_ops.BatchMatMulV2(x=left, y=right, name=label), tuple(range(x.rank)))


_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_WHOLE = 1e-4
"""How far a length times a float32 scale may be from the whole number that it stands for."""


def _resize(graph: Graph, node: onnx.NodeProto, label: str) -> Value:
    given, value = attributes(node), graph.value(node.input[0])
    features, mode = _maps(graph, node, label), given.get("mode", b"nearest").decode()
    sizes, scales = graph.numbers(node, "sizes", 3), graph.numbers(node, "scales", 2) or []
    exact = sizes or [(length or 1) * scale for length, scale in zip(value.shape, scales, strict=True)]
    lengths = [round(length) for length in exact]
    if any(abs(length - exactly) > _WHOLE for length, exactly in zip(lengths[2:], exact[2:], strict=True)):
        raise refusal(
            node, f"a map of {value.shape[2:]} px by {scales[2:]} has no whole size, as TensorFlow's needs it"
        )
    how = given.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = given.get("nearest_mode", b"round_prefer_floor").decode()
    size = tf.constant(lengths[2:], tf.int32, name=f"{label}/size")
    one_pixel = how == "pytorch_half_pixel" and 1 in lengths[2:]
    if mode == "linear" and how in _COORDINATES and not one_pixel:
        resized = tf.raw_ops.ResizeBilinear(
            images=features,
            size=size,
            align_corners=how == "align_corners",
            half_pixel_centers=how.endswith("half_pixel"),
            name=label,
        )
    elif mode == "nearest" and (how, rounding) == ("asymmetric", "floor"):
        resized = tf.raw_ops.ResizeNearestNeighbor(images=features, size=size, name=label)
    else:
        raise refusal(node, f"{mode} interpolation with {how} coordinates and rounding {rounding}")
    return Value(resized, MAPS)


WRITERS: dict[str, Writer] = {
    "Abs": _unary(tf.raw_ops.Abs, "x"),
    "Add": _binary(tf.raw_ops.AddV2),
    "AveragePool": _pool(tf.raw_ops.AvgPool, "value"),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _binary(tf.raw_ops.RealDiv),
    "Elu": _unary(tf.raw_ops.Elu, "features"),
    "Erf": _unary(tf.raw_ops.Erf, "x"),
    "Exp": _unary(tf.raw_ops.Exp, "x"),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "LRN": _local_response,
    "LeakyRelu": _unary(tf.raw_ops.LeakyRelu, "features", alpha=0.01),
    "Log": _unary(tf.raw_ops.Log, "x"),
    "MatMul": _matmul,
    "Max": _several(tf.raw_ops.Maximum, "max"),
    "MaxPool": _pool(tf.raw_ops.MaxPool, "input"),
    "Min": _several(tf.raw_ops.Minimum, "min"),
    "Mul": _binary(tf.raw_ops.Mul),
    "Neg": _unary(tf.raw_ops.Neg, "x"),
    "Pad": _pad,
    "Pow": _binary(tf.raw_ops.Pow),
    "Reciprocal": _unary(tf.raw_ops.Reciprocal, "x"),
    "ReduceMax": _reduce(tf.raw_ops.Max),
    "ReduceMean": _reduce(tf.raw_ops.Mean),
    "ReduceMin": _reduce(tf.raw_ops.Min),
    "ReduceSum": _reduce(tf.raw_ops.Sum),
    "Relu": _unary(tf.raw_ops.Relu, "features"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": _unary(tf.raw_ops.Selu, "features"),
    "Sigmoid": _unary(tf.raw_ops.Sigmoid, "x"),
    "Sign": _unary(tf.raw_ops.Sign, "x"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _unary(tf.raw_ops.Softplus, "features"),
    "Split": _split,
    "Sqrt": _unary(tf.raw_ops.Sqrt, "x"),
    "Squeeze": _squeeze,
    "Sum": _several(tf.raw_ops.AddV2, "sum"),
    "Sub": _binary(tf.raw_ops.Sub),
    "Tanh": _unary(tf.raw_ops.Tanh, "x"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By the operator's name in ONNX."""
