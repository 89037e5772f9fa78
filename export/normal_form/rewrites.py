"""ONNX → ONNX: the form that TensorFlow 2.2 has operators for, at dynamic sizes.

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

from export.parity.probes import picture
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
    *("Slice", "Expand", "Resize", "Cast", "Flatten", "Gemm", "InstanceNormalization"),
}

BLOCK_CHANNELS, MOST_BLOCKS = 32, 16
"""A convolution of many groups becomes blocks no narrower and no more than this: within 20 % of the fastest of all forms on
every layer of ResNeXt in TensorFlow 2.2 and in today's (`benchmarks/grouped_convolutions.py`)."""


def split_grouped_convolutions(graph: gs.Graph) -> None:
    """A grouped convolution becomes dense ones; TensorFlow 2.2 has no other on CPUs.

    A few wide groups become one convolution each; of many narrow ones several share one, with zeros between them. Where the convolution before it feeds the groups alone, that one is split too, so that no Split is left; where the
    groups are told apart again behind it, as by split attention, they are never put together.
    """
    for node in [node for node in graph.nodes if node.op == "Conv" and node.attrs.get("group", 1) > 1]:
        groups = node.attrs["group"]
        if node.inputs[1].values.shape[2:] == (1, 1):
            # Only attention has grouped 1×1 convolutions, on 1×1 maps, where zeros are cheaper than a Split.
            node.inputs[1] = _constant(node, "weight", _dense(node.inputs[1].values, groups))
            node.attrs["group"] = 1
            continue
        blocks = _blocks(node)
        weight, *bias = (np.split(value.values, blocks) for value in node.inputs[1:])
        values = [[_dense(rows, groups // blocks) for rows in weight], *bias]
        parts = _split_input(graph, node, blocks)
        outputs = [
            _convolution(graph, node, f"group{index}", part, *(value[index] for value in values))
            for index, part in enumerate(parts)
        ]
        _replace_group_outputs(graph, node, outputs)
        node.outputs.clear()


def _blocks(node: gs.Node) -> int:
    """How many dense convolutions a grouped one becomes."""
    groups, (outputs, inputs) = node.attrs["group"], node.inputs[1].values.shape[:2]
    # Whoever tells the outputs apart again needs whole blocks.
    relu = node.outputs[0].outputs[0] if node.outputs[0].outputs[0].op == "Relu" else node
    split = relu.outputs[0].outputs[0]
    return block_count(groups, max(inputs, outputs // groups), len(split.outputs) if split.op == "Split" else 1)


def block_count(groups: int, width: int, least: int = 1) -> int:
    """How many dense convolutions are cheapest for `groups` groups of `width` channels; a multiple of `least`."""
    fits = (b for b in range(groups, 0, -1) if groups % b == 0 and b % least == 0 and (b <= MOST_BLOCKS or b == least))
    return next((b for b in fits if groups // b * width >= BLOCK_CHANNELS), least)


def _split_input(graph: gs.Graph, node: gs.Node, count: int) -> list[gs.Variable]:
    """The input of a node in `count` parts: the outputs of a split convolution, or of a Split."""
    parts = _split_producer(graph, node.inputs[0], count) if count > 1 else [node.inputs[0]]
    if parts:
        return parts
    channels = node.inputs[1].values.shape[1] * node.attrs["group"] // count
    sizes = gs.Constant(f"{node.name}/sizes", np.full(count, channels, np.int64))
    outputs = [gs.Variable(f"{node.name}/split{index}", np.float32) for index in range(count)]
    graph.nodes.append(gs.Node("Split", f"{node.name}/split", {"axis": 1}, [node.inputs[0], sizes], outputs))
    return outputs


def _split_producer(graph: gs.Graph, tensor: gs.Variable, count: int) -> list[gs.Variable]:
    """A tensor as `count` outputs of the convolution that makes it, ReLUs included; empty where others read it too."""
    relu = _producer(tensor, "Relu")
    convolved = relu.inputs[0] if relu else tensor
    before = _producer(convolved, "Conv")
    alone = before and len(tensor.outputs) == 1 and len(convolved.outputs) == 1
    if not alone or before.attrs.get("group", 1) > 1:
        return []
    values = zip(*(np.split(value.values, count) for value in before.inputs[1:]), strict=True)
    parts = [_convolution(graph, before, f"part{i}", before.inputs[0], *part) for i, part in enumerate(values)]
    before.outputs.clear()
    _name_parts(convolved, parts)
    if relu:
        parts = [_append(graph, "Relu", [part], like=part) for part in parts]
        _name_parts(tensor, parts)
    return parts


def split_convolutions_instead_of_maps(graph: gs.Graph) -> None:
    """A Split into equal parts behind a convolution becomes one convolution a part: Res2Net's hierarchy, IBN-a's halves.

    No map is copied then, and BatchNorm behind IBN-a's half can be folded.
    """
    for node in [node for node in graph.nodes if node.op == "Split" and node.attrs.get("axis", 0) == 1]:
        if len(set(node.inputs[1].values)) > 1:
            continue
        parts = _split_producer(graph, node.inputs[0], len(node.outputs))
        for old, new in zip(list(node.outputs) if parts else [], parts, strict=True):
            _rewire(graph, old, new)
        if parts:
            node.outputs.clear()


def instance_norm_by_means(graph: gs.Graph) -> None:
    """Instance normalisation written out: TensorFlow has no operator for it. (x - mean) / √(variance + ε) · scale + shift."""
    for node in [node for node in graph.nodes if node.op == "InstanceNormalization"]:
        features, *values = node.inputs
        scale, shift = (
            gs.Constant(f"{node.name}/{part}", value.values.reshape(1, -1, 1, 1))
            for part, value in zip(("scale", "shift"), values, strict=True)
        )
        epsilon = gs.Constant(f"{node.name}/epsilon", np.array(node.attrs["epsilon"], np.float32))
        mean = {"axes": [2, 3], "keepdims": 1}
        like = node.outputs[0]
        centred = _append(graph, "Sub", [features, _append(graph, "ReduceMean", [features], like, mean)], like)
        squares = _append(graph, "Mul", [centred, centred], like)
        variance = _append(graph, "ReduceMean", [squares], like, mean)
        deviation = _append(graph, "Sqrt", [_append(graph, "Add", [variance, epsilon], like)], like)
        factor = _append(graph, "Div", [scale, deviation], like)
        scaled = _append(graph, "Mul", [centred, factor], like)
        _replace(graph, node.outputs[0], _append(graph, "Add", [scaled, shift], like))


def _replace_group_outputs(graph: gs.Graph, node: gs.Node, outputs: list[gs.Variable]) -> None:
    """Hands each group's output to whoever read it: a Relu moves into the groups, and a Split behind takes whole ones."""
    whole = node.outputs[0]
    if len(whole.outputs) == 1 and whole.outputs[0].op == "Relu":
        relu = whole.outputs[0]
        outputs = [_append(graph, "Relu", [output], like=output) for output in outputs]
        _name_parts(relu.outputs[0], outputs)
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
        _replace(graph, total, result)


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

    2×2 with stride 2 whose odd edges average over what exists is SAME_UPPER with padding not counted. Pooling that counts
    its padding is a Pad by zeros and a pooling without padding; where padding does not count, it is divided by the same
    pooling of ones, as no padding of TensorFlow's begins one before an even map.
    """
    for node in [node for node in graph.nodes if node.op == "AveragePool"]:
        pads, counted = node.attrs.get("pads", [0, 0, 0, 0]), node.attrs.get("count_include_pad", 0)
        if any(pads) and not node.attrs.get("ceil_mode", 0):
            features, output = node.inputs[0], node.outputs[0]
            averaged = _padded_average(graph, node, features, pads)
            if not counted:
                one, zero = (gs.Constant(f"{node.name}/{value}", np.array(value, np.float32)) for value in (1, 0))
                mean = _append(graph, "ReduceMean", [features], like=output, attrs={"axes": [1], "keepdims": 1})
                ones = _append(graph, "Add", [_append(graph, "Mul", [mean, zero], like=output), one], like=output)
                averaged = _append(graph, "Div", [averaged, _padded_average(graph, node, ones, pads)], like=output)
            _replace(graph, output, averaged)
            node.outputs.clear()
        elif node.attrs.get("ceil_mode", 0) and node.attrs["kernel_shape"] == node.attrs["strides"] and not any(pads):
            node.attrs.pop("pads", None)
            node.attrs.update(auto_pad="SAME_UPPER", ceil_mode=0, count_include_pad=0)


def _padded_average(graph: gs.Graph, node: gs.Node, features: gs.Variable, pads: list[int]) -> gs.Variable:
    """A node's average pooling of other features behind zeros that count."""
    amounts = gs.Constant(f"{features.name}/pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
    padded = _append(graph, "Pad", [features, amounts], like=node.outputs[0], attrs={"mode": "constant"})
    attributes = {"kernel_shape": node.attrs["kernel_shape"], "strides": node.attrs["strides"], "pads": [0, 0, 0, 0]}
    return _append(graph, "AveragePool", [padded], like=node.outputs[0], attrs=attributes)


def neck_as_convolution(graph: gs.Graph) -> None:
    """The neck's linear layer becomes a 1×1 convolution on the pooled 1×1 map, BatchNorm and bias on either side in it.

    TensorFlow then has the same operator for it as for everything before it, and no Reshape.
    """
    for node in [node for node in graph.nodes if node.op in ("MatMul", "Gemm")]:
        weight = node.inputs[1].values if node.op == "Gemm" and node.attrs.get("transB") else node.inputs[1].values.T
        bias = node.inputs[2].values if len(node.inputs) > 2 else np.zeros(len(weight), np.float32)
        pooled, last = node.inputs[0], node
        if norm := _producer(pooled, "BatchNormalization"):
            scale, shift = _affine(norm)
            weight, bias, pooled = weight * scale, bias + weight @ shift, norm.inputs[0]
        while (reader := last.outputs[0].outputs[0] if len(last.outputs[0].outputs) == 1 else None) is not None:
            if reader.op == "BatchNormalization":
                scale, shift = _affine(reader)
                weight, bias = weight * scale[:, None], bias * scale + shift
            elif reader.op == "Add" and isinstance(reader.inputs[1], gs.Constant):
                bias = bias + reader.inputs[1].values
            else:
                break
            last = reader
        _keep_map(pooled)
        kernel, shift = (
            gs.Constant(f"{node.name}/{part}", np.ascontiguousarray(value, np.float32))
            for part, value in (("weight", weight[:, :, None, None]), ("bias", bias))
        )
        attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1, "pads": [0, 0, 0, 0]}
        embedding = _append(graph, "Conv", [pooled, kernel, shift], like=node.outputs[0], attrs=attributes)
        axes = gs.Constant(f"{node.name}/axes", np.array([2, 3], np.int64))
        _replace(graph, last.outputs[0], _append(graph, "Squeeze", [embedding, axes], like=embedding))


def _affine(norm: gs.Node) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift float64 of a BatchNormalization node."""
    weight, bias, mean, variance = (value.values.astype(np.float64) for value in norm.inputs[1:5])
    scale = weight / np.sqrt(variance + norm.attrs.get("epsilon", 1e-5))
    return scale, bias - mean * scale


def _keep_map(pooled: gs.Variable) -> None:
    """Makes the poolings before a neck keep their two dimensions of size 1."""
    pooled.shape, node = None, pooled.inputs[0]
    if node.op in ("ReduceMean", "ReduceMax"):
        node.attrs["keepdims"] = 1
        return
    for tensor in node.inputs:
        if isinstance(tensor, gs.Variable):
            _keep_map(tensor)


def mean_by_rows(graph: gs.Graph) -> None:
    """The mean of a map becomes the mean of the means of its rows.

    TensorFlow 2.2 adds a map up in one long sum, whose rounding has one sign where the map is flat: at 56 × 56 equal pixels
    it is 30 times that of two short sums, and split attention carries it on.
    """
    for node in [node for node in graph.nodes if node.op == "ReduceMean" and sorted(node.attrs["axes"]) == [2, 3]]:
        node.inputs[0] = _append(
            graph, "ReduceMean", node.inputs[:1], like=node.outputs[0], attrs={"axes": [3], "keepdims": 1}
        )
        if node.attrs.get("keepdims", 1):
            node.attrs["axes"] = [2]


def powers_by_logarithm(graph: gs.Graph) -> None:
    """GeM's learned power of a map becomes exp(p · log x): TensorFlow takes 20 times as long for a power as for both.

    Its base is clipped from below, so the logarithm exists. A power of a pooled value is left as it is.
    """
    for node in [node for node in graph.nodes if node.op == "Pow" and _producer(node.inputs[0], "Clip")]:
        logarithm = _append(graph, "Log", node.inputs[:1], like=node.outputs[0])
        product = _append(graph, "Mul", [logarithm, node.inputs[1]], like=node.outputs[0])
        _replace(graph, node.outputs[0], _append(graph, "Exp", [product], like=node.outputs[0]))


def same_padding(graph: gs.Graph) -> None:
    """A stride-1 convolution whose padding keeps its size says so: SAME, no Pad of its own in TensorFlow."""
    for node in graph.nodes:
        if node.op != "Conv" or node.attrs.get("strides", [1, 1]) != [1, 1] or "pads" not in node.attrs:
            continue
        kernel = node.inputs[1].values.shape[2:]
        if list(node.attrs["pads"]) == [size // 2 for size in kernel] * 2 and any(node.attrs["pads"]):
            del node.attrs["pads"]
            node.attrs["auto_pad"] = "SAME_UPPER"


# The second simplification folds the BatchNorm of IBN-a's half; the pooling comes after it, as it undoes a Pad.
REWRITES = (
    simplify,
    neck_as_convolution,
    instance_norm_by_means,
    split_convolutions_instead_of_maps,
    simplify,
    split_grouped_convolutions,
    split_attention_without_reshape,
    explicit_average_pooling,
    powers_by_logarithm,
    mean_by_rows,
    same_padding,
)


def _append(graph: gs.Graph, op: str, inputs: list, like: gs.Tensor, attrs: dict | None = None) -> gs.Variable:
    """A new node of one float32 output, named after a tensor that it works beside."""
    name, taken = f"{like.name}/{op.lower()}", {node.name for node in graph.nodes}
    # Counted within the file, so that the same file comes out whatever was rewritten before.
    name = next(n for n in itertools.chain([name], (f"{name}{i}" for i in itertools.count(2))) if n not in taken)
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
    """Weights [out, in / groups, K, K] of a grouped convolution → [out, in, K, K], zero between the groups."""
    out, each = weight.shape[:2]
    dense = np.zeros((out, each * groups, *weight.shape[2:]), weight.dtype)
    for group, rows in enumerate(np.split(np.arange(out), groups)):
        dense[rows, group * each : (group + 1) * each] = weight[rows]
    return dense


def _producer(tensor: gs.Tensor, op: str) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs and tensor.inputs[0].op == op else None


PART = "/part{}"
"""Behind the name of a tensor that now comes in parts along its channels; `find_divergence` puts them together again."""


def _name_parts(tensor: gs.Variable, parts: list[gs.Variable]) -> None:
    for index, part in enumerate(parts):
        part.name = tensor.name + PART.format(index)


def _replace(graph: gs.Graph, old: gs.Variable, new: gs.Variable) -> None:
    """Whoever read `old` reads `new`, which has the same values and takes its name."""
    _rewire(graph, old, new)
    old.name, new.name = f"{old.name}/before", old.name


def _rewire(graph: gs.Graph, old: gs.Variable, new: gs.Variable) -> None:
    """Whoever read `old` reads `new`."""
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]
    graph.outputs = [new if tensor is old else tensor for tensor in graph.outputs]
