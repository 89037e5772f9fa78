"""ONNX → ONNX: the form that onnx2tf converts exactly, for TensorFlow 2.2 and at dynamic sizes.

Published converters bring no ResNeSt to TensorFlow 2.2: it has no grouped convolution on CPUs, and reshapes, average
pooling with odd edges and dynamic sizes are lost on the way. So the file is rewritten first, one small rewrite a
function, the same for both frameworks. onnxsim does what it does well (constants, BatchNorm into convolutions); the
rest is here. ONNX Runtime proves every rewrite equal to the file before it, at odd sizes, before TensorFlow starts.
"""

import itertools
from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import onnxsim

from export.probes import picture
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec
from zoo.tolerances import TOLERANCES, compare

PROOF_SIZES = ((2, 64, 64), (1, 97, 131), (1, 33, 65))
"""(batch, height, width) at which every rewrite is proven; both odd edges and a batch above one are among them."""


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrites a network's ONNX file into the normal form.

    Args:
        model: one input float32 [N, 3, H, W], one output; all sizes but the channels may be dynamic.

    Returns:
        A new model with the same input and output names and the metadata of the old one.

    Raises:
        ExportError: a rewrite that changed the outputs, or an operator left over that the normal form forbids.
    """
    metadata = list(model.metadata_props)
    expected = _run(model)
    for rewrite in REWRITES:
        model = rewrite(model) if rewrite is simplify else _on_graph(rewrite, model)
        _prove(rewrite.__name__, expected, _run(model))
    _forbid(model)
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)
    onnx.checker.check_model(model)
    return model


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxsim: constants computed, BatchNorm folded into the convolution before it, what does nothing removed."""
    simplified, _ = onnxsim.simplify(model)
    return simplified


def _on_graph(rewrite: Callable[[gs.Graph], None], model: onnx.ModelProto) -> onnx.ModelProto:
    # A constant may be a node or a value; folded, it is always a value.
    graph = gs.import_onnx(model).fold_constants().cleanup()
    rewrite(graph)
    return onnx.shape_inference.infer_shapes(gs.export_onnx(graph.cleanup().toposort()))


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    random = np.random.default_rng(0)
    random = np.random.default_rng(0)
    # Pictures, as the network is meant to see: white noise drives untrained attention where rounding alone reaches 2e-5.
    batches = (np.stack([picture(random, h, w) for _ in range(n)]) for n, h, w in PROOF_SIZES)
    return [session.run(None, {name: normalise(batch, PreprocessSpec())})[0] for batch in batches]


def _prove(name: str, expected: list[np.ndarray], found: list[np.ndarray]) -> None:
    for size, before, after in zip(PROOF_SIZES, expected, found, strict=True):
        difference = compare(before, after)
        if not difference.within(TOLERANCES["onnx → normal form"]):
            raise ExportError(
                f"the rewrite {name!r} changed the network: {difference} at {size}. The ONNX file is outside what the "
                "rewrite knows; export it from a checkpoint of the zoo."
            )


def _forbid(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        grouped = node.op_type == "Conv" and attributes.get("group", 1) > 1
        uncounted = node.op_type == "AveragePool" and any(attributes.get("pads", ()))
        if node.op_type in FORBIDDEN or grouped or uncounted:
            what = f"{node.op_type}{' with groups' if grouped else ' with padding' if uncounted else ''}"
            raise ExportError(
                f"the normal form does not know what to do with {what} at {node.name or node.output[0]!r}"
            )


FORBIDDEN = {
    *("Transpose", "Reshape", "Shape", "Gather", "ConstantOfShape", "Unsqueeze", "Softmax", "BatchNormalization"),
    *("Slice", "Expand", "Resize", "Cast", "Flatten", "Gemm"),
}


def split_grouped_convolutions(graph: gs.Graph) -> None:
    """A grouped convolution becomes one convolution a group; TensorFlow 2.2 has no other on CPUs.

    Where the convolution before it feeds the groups alone, that one is split too, so that no Split is left; where the
    groups are told apart again behind it, as by split attention, they are never put together.
    """
    for node in [node for node in graph.nodes if node.op == "Conv" and node.attrs.get("group", 1) > 1]:
        groups = node.attrs["group"]
        if node.inputs[1].values.shape[2:] == (1, 1):
            # Only attention has grouped 1×1 convolutions, on 1×1 maps, where zeros are cheaper than a Split.
            node.inputs[1] = _constant(node, "weight", _dense(node.inputs[1].values, groups))
            node.attrs["group"] = 1
            continue
        parts = _group_inputs(graph, node, groups)
        outputs = [
            _convolution(
                graph, node, f"group{index}", part, *(np.split(v.values, groups)[index] for v in node.inputs[1:])
            )
            for index, part in enumerate(parts)
        ]
        _replace_group_outputs(graph, node, outputs)
        node.outputs.clear()


def _group_inputs(graph: gs.Graph, node: gs.Node, groups: int) -> list[gs.Variable]:
    """The input of each group: the outputs of a split convolution, or of a Split."""
    relu = _producer(node.inputs[0], "Relu")
    before = _producer(relu.inputs[0], "Conv") if relu else None
    alone = relu and before and len(node.inputs[0].outputs) == 1 and len(relu.inputs[0].outputs) == 1
    if alone and before.attrs.get("group", 1) == 1:
        parts = zip(*(np.split(value.values, groups) for value in before.inputs[1:]), strict=True)
        convolved = [_convolution(graph, before, f"part{i}", before.inputs[0], *part) for i, part in enumerate(parts)]
        before.outputs.clear()
        return [_append(graph, "Relu", [part], like=part) for part in convolved]
    channels = node.inputs[1].values.shape[1]
    sizes = gs.Constant(f"{node.name}/sizes", np.full(groups, channels, np.int64))
    outputs = [gs.Variable(f"{node.name}/split{index}", np.float32) for index in range(groups)]
    graph.nodes.append(gs.Node("Split", f"{node.name}/split", {"axis": 1}, [node.inputs[0], sizes], outputs))
    return outputs


def _replace_group_outputs(graph: gs.Graph, node: gs.Node, outputs: list[gs.Variable]) -> None:
    """Hands each group's output to whoever read it: a Relu moves into the groups, and a Split behind takes whole ones."""
    whole = node.outputs[0]
    if len(whole.outputs) == 1 and whole.outputs[0].op == "Relu":
        relu = whole.outputs[0]
        outputs = [_append(graph, "Relu", [output], like=output) for output in outputs]
        whole = relu.outputs[0]
        relu.outputs.clear()
    split = whole.outputs[0] if len(whole.outputs) == 1 and whole.outputs[0].op == "Split" else None
    if split and len(outputs) % len(split.outputs) == 0 and len(set(split.inputs[1].values)) == 1:
        readers, split_outputs = len(split.outputs), list(split.outputs)
        split.outputs.clear()
    else:
        readers, split_outputs = 1, [whole]
    each = len(outputs) // readers
    for index, old in enumerate(split_outputs):
        members = outputs[index * each : (index + 1) * each]
        new = members[0] if each == 1 else _append(graph, "Concat", members, attrs={"axis": 1}, like=old)
        _rewire(graph, old, new)


def split_attention_without_reshape(graph: gs.Graph) -> None:
    """The softmax over a split attention's radix, computed on maps alone.

    Which logit weighs which split is found by sending the channel numbers through the reshapes and transposes, so any
    exporter's way of writing them is understood. A radix of 2 is the sigmoid of the logits' difference, which the last
    1×1 convolution computes itself: a·σ(d) + b·(1 - σ(d)) = b + σ(d)·(a - b). Above 2, each logit map comes from its own
    convolution, and the softmax is written out, the greatest logit subtracted.
    """
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        convolution, logits = _logits(softmax)
        groups = np.moveaxis(logits, softmax.attrs.get("axis", -1), 0).reshape(
            logits.shape[softmax.attrs.get("axis", -1)], -1
        )
        products = _follow(softmax.outputs[0], logits)
        channels = np.stack([indices for _, indices in products])
        if {tuple(sorted(column)) for column in channels.T} != {tuple(sorted(column)) for column in groups.T}:
            raise ExportError(f"{softmax.name!r}: the softmax does not run over the splits that its weights multiply")
        splits = [next(i for i in mul.inputs if not _comes_from(i, softmax)) for mul, _ in products]
        total = _sum_of([mul.outputs[0] for mul, _ in products])
        weight, bias = (value.values for value in convolution.inputs[1:])
        if len(products) == 2:
            first, second = channels
            difference = _convolution(
                graph,
                convolution,
                "difference",
                convolution.inputs[0],
                weight[first] - weight[second],
                bias[first] - bias[second],
            )
            share = _append(graph, "Sigmoid", [difference], like=difference)
            apart = _append(graph, "Sub", splits, like=total)
            result = _append(graph, "Add", [splits[1], _append(graph, "Mul", [apart, share], like=apart)], like=total)
        else:
            maps = [
                _convolution(graph, convolution, f"logits{i}", convolution.inputs[0], weight[c], bias[c])
                for i, c in enumerate(channels)
            ]
            result = _weighted_sum(graph, maps, splits)
        _rewire(graph, total, result)


def _weighted_sum(graph: gs.Graph, logits: list[gs.Variable], splits: list[gs.Variable]) -> gs.Variable:
    greatest = _append(graph, "Max", logits, like=logits[0])
    powers = [
        _append(graph, "Exp", [_append(graph, "Sub", [logit, greatest], like=logit)], like=logit) for logit in logits
    ]
    total = powers[0]
    for power in powers[1:]:
        total = _append(graph, "Add", [total, power], like=total)
    result = None
    for power, split in zip(powers, splits, strict=True):
        share = _append(graph, "Div", [power, total], like=power)
        term = _append(graph, "Mul", [split, share], like=share)
        result = term if result is None else _append(graph, "Add", [result, term], like=term)
    return result


def _logits(softmax: gs.Node) -> tuple[gs.Node, np.ndarray]:
    """The convolution behind a softmax, and which of its channels stands where in the softmax's input."""
    path, node = [], softmax.inputs[0].inputs[0]
    while node.op in ("Reshape", "Transpose"):
        path.append(node)
        node = node.inputs[0].inputs[0]
    if node.op != "Conv":
        raise ExportError(f"{softmax.name!r}: expected a split attention's softmax behind a Conv, found {node.op}")
    channels = node.inputs[1].values.shape[0]
    indices = np.arange(channels).reshape(1, channels, 1, 1)
    for step in reversed(path):
        indices = _move(step, indices)
    return node, indices


def _move(node: gs.Node, indices: np.ndarray) -> np.ndarray:
    if node.op == "Transpose":
        return indices.transpose(node.attrs["perm"])
    shape = [indices.shape[i] if size == 0 else size for i, size in enumerate(node.inputs[1].values)]
    return indices.reshape(shape)


def _follow(weights: gs.Variable, indices: np.ndarray) -> list[tuple[gs.Node, np.ndarray]]:
    """Every Mul that the softmax's weights reach, with the channel that weighs each of its channels."""
    products = []
    for node in weights.outputs:
        if node.op in ("Reshape", "Transpose"):
            products += _follow(node.outputs[0], _move(node, indices))
        elif node.op == "Split":
            parts = np.split(indices, np.cumsum(node.inputs[1].values)[:-1], axis=node.attrs.get("axis", 0))
            for output, part in zip(node.outputs, parts, strict=True):
                products += _follow(output, part)
        elif node.op == "Mul":
            products.append((node, indices.reshape(-1)))
        else:
            raise ExportError(
                f"expected split attention's weights to multiply its splits, found {node.op} at {node.name!r}"
            )
    return products


def _comes_from(tensor: gs.Tensor, node: gs.Node) -> bool:
    producer = tensor.inputs[0] if tensor.inputs else None
    while producer and producer is not node and producer.op in ("Reshape", "Transpose", "Split"):
        producer = producer.inputs[0].inputs[0]
    return producer is node


def _sum_of(terms: list[gs.Variable]) -> gs.Variable:
    """The tensor in which all terms have been added up."""
    total = terms[0]
    for term in terms[1:]:
        add = next((node for node in total.outputs if node.op == "Add" and any(i is term for i in node.inputs)), None)
        if add is None:
            raise ExportError(f"expected the weighted splits to be added up, but nothing adds {term.name!r}")
        total = add.outputs[0]
    return total


def explicit_average_pooling(graph: gs.Graph) -> None:
    """Average pooling says its padding in a way that keeps dynamic sizes exact.

    2×2 with stride 2 whose odd edges average over what exists is SAME_UPPER with padding not counted; pooling that
    counts its padding is a Pad by zeros and a pooling without padding.
    """
    for node in [node for node in graph.nodes if node.op == "AveragePool"]:
        pads, counted = node.attrs.get("pads", [0, 0, 0, 0]), node.attrs.get("count_include_pad", 0)
        if any(pads) and counted and not node.attrs.get("ceil_mode", 0):
            amounts = gs.Constant(f"{node.name}/pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
            node.inputs[0] = _append(
                graph, "Pad", [node.inputs[0], amounts], like=node.outputs[0], attrs={"mode": "constant"}
            )
            node.attrs.update(pads=[0, 0, 0, 0], count_include_pad=0)
        elif node.attrs.get("ceil_mode", 0) and node.attrs["kernel_shape"] == node.attrs["strides"] and not any(pads):
            node.attrs.pop("pads", None)
            node.attrs.update(auto_pad="SAME_UPPER", ceil_mode=0, count_include_pad=0)


def neck_as_convolution(graph: gs.Graph) -> None:
    """The neck's linear layer becomes a 1×1 convolution on the pooled 1×1 map.

    onnx2tf writes a Transpose behind a MatMul of two dimensions, and only a convolution takes in the neck's BatchNorm.
    """
    for node in [node for node in graph.nodes if node.op in ("MatMul", "Gemm")]:
        weight = node.inputs[1].values if node.op == "Gemm" and node.attrs.get("transB") else node.inputs[1].values.T
        _keep_map(node.inputs[0])
        kernel = gs.Constant(f"{node.name}/weight", np.ascontiguousarray(weight[:, :, None, None]))
        attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0]}
        last, embedding = node, gs.Variable(f"{node.name}/map", np.float32)
        graph.nodes.append(
            gs.Node("Conv", f"{node.name}/conv", attributes, [node.inputs[0], kernel, *node.inputs[2:]], [embedding])
        )
        if len(node.outputs[0].outputs) == 1 and node.outputs[0].outputs[0].op == "BatchNormalization":
            last = node.outputs[0].outputs[0]
            normalised = gs.Variable(f"{last.name}/map", np.float32)
            graph.nodes.append(
                gs.Node(last.op, f"{last.name}/map", last.attrs, [embedding, *last.inputs[1:]], [normalised])
            )
            embedding = normalised
        axes = gs.Constant(f"{node.name}/axes", np.array([2, 3], np.int64))
        _rewire(graph, last.outputs[0], _append(graph, "Squeeze", [embedding, axes], like=embedding))


def _keep_map(pooled: gs.Variable) -> None:
    """Makes the pooling before a neck keep its two dimensions of size 1."""
    node = pooled.inputs[0]
    while node.op != "ReduceMean":
        pooled.shape = None
        pooled, node = node.inputs[0], node.inputs[0].inputs[0]
    node.attrs["keepdims"], pooled.shape = 1, None


def same_padding(graph: gs.Graph) -> None:
    """A stride-1 convolution whose padding keeps its size says so: SAME, no Pad of its own in TensorFlow."""
    for node in graph.nodes:
        if node.op != "Conv" or node.attrs.get("strides", [1, 1]) != [1, 1] or "pads" not in node.attrs:
            continue
        kernel = node.inputs[1].values.shape[2:]
        if list(node.attrs["pads"]) == [size // 2 for size in kernel] * 2 and any(node.attrs["pads"]):
            del node.attrs["pads"]
            node.attrs["auto_pad"] = "SAME_UPPER"


# The neck comes before the second simplification, which folds its BatchNorm; the pooling after, as it undoes a Pad.
REWRITES = (
    simplify,
    neck_as_convolution,
    simplify,
    split_grouped_convolutions,
    split_attention_without_reshape,
    explicit_average_pooling,
    same_padding,
)

_numbers = itertools.count()


def _append(graph: gs.Graph, op: str, inputs: list, like: gs.Tensor, attrs: dict | None = None) -> gs.Variable:
    """A new node of one float32 output, named after a tensor that it works beside."""
    name = f"{like.name}/{op.lower()}{next(_numbers)}"
    output = gs.Variable(name, np.float32)
    graph.nodes.append(gs.Node(op, name, attrs or {}, list(inputs), [output]))
    return output


def _convolution(
    graph: gs.Graph, like: gs.Node, part: str, tensor: gs.Tensor, weight: np.ndarray, bias: np.ndarray | None = None
) -> gs.Variable:
    """A copy of a convolution with other weights and one group."""
    name = f"{like.name}/{part}"
    values = [gs.Constant(f"{name}/weight", np.ascontiguousarray(weight))]
    if bias is not None:
        values.append(gs.Constant(f"{name}/bias", np.ascontiguousarray(bias)))
    output = gs.Variable(name, np.float32)
    graph.nodes.append(gs.Node("Conv", name, {**like.attrs, "group": 1}, [tensor, *values], [output]))
    return output


def _constant(node: gs.Node, part: str, values: np.ndarray) -> gs.Constant:
    return gs.Constant(f"{node.name}/{part}", values)


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights [out, in / groups, 1, 1] of a grouped convolution → [out, in, 1, 1], zero between the groups."""
    out, each = weight.shape[:2]
    dense = np.zeros((out, each * groups, 1, 1), weight.dtype)
    for group, rows in enumerate(np.split(np.arange(out), groups)):
        dense[rows, group * each : (group + 1) * each] = weight[rows]
    return dense


def _producer(tensor: gs.Tensor, op: str) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op == op else None


def _rewire(graph: gs.Graph, old: gs.Variable, new: gs.Variable) -> None:
    """Whoever read `old` reads `new`."""
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]
    graph.outputs = [new if tensor is old else tensor for tensor in graph.outputs]
