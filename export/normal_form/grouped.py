"""Grouped convolutions become dense ones, and split maps become split convolutions."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, constant, convolution, dense, name_parts, producer, rewire

BLOCK_CHANNELS, MOST_BLOCKS = 32, 16
"""Least channels per block and most blocks of a convolution with many groups: within 20 % of the fastest form on every layer
of ResNeXt, in TensorFlow 2.2 and in the current TensorFlow (`benchmarks/grouped_convolutions.py`)."""


def split_grouped_convolutions(graph: gs.Graph) -> None:
    """Replaces grouped convolutions by dense ones, because TensorFlow 2.2 has no grouped ones on CPUs.

    A few wide groups become one convolution each; of many narrow ones, several share one, with zeros between them. If only the
    groups read the convolution before, that one is split too, so no Split is needed. If the groups are separated again
    afterwards, as by split attention, they are never concatenated.
    """
    for node in [node for node in graph.nodes if node.op == "Conv" and node.attrs.get("group", 1) > 1]:
        groups = node.attrs["group"]
        if is_depthwise(node):  # TensorFlow has these
            continue
        if node.inputs[1].values.shape[2:] == (1, 1) and _of_one_pixel(node.inputs[0]):
            # Zeros are cheaper than a Split.
            node.inputs[1] = constant(node, "weight", dense(node.inputs[1].values, groups))
            node.attrs["group"] = 1
            continue
        blocks = _blocks(node)
        weight, *bias = (np.split(value.values, blocks) for value in node.inputs[1:])
        values = [[dense(rows, groups // blocks) for rows in weight], *bias]
        parts = _split_input(graph, node, blocks)
        outputs = [
            convolution(graph, node, f"group{index}", part, *(value[index] for value in values))
            for index, part in enumerate(parts)
        ]
        _replace_group_outputs(graph, node, outputs)
        node.outputs.clear()


def is_depthwise(node: gs.Node) -> bool:
    """Whether a convolution treats each channel alone."""
    return node.attrs.get("group", 1) > 1 and node.inputs[1].values.shape[1] == 1


def _of_one_pixel(features: gs.Tensor) -> bool:
    """Whether maps have one pixel. At dynamic sizes only attention's are known to, and only it has grouped 1×1 convolutions."""
    lengths = (features.shape or ())[2:]
    return all(length == 1 for length in lengths if isinstance(length, int))


def _splits_channels(node: gs.Node) -> bool:
    return node.op == "Split" and node.attrs.get("axis", 0) == 1


def _blocks(node: gs.Node) -> int:
    """How many dense convolutions a grouped one becomes."""
    groups, (outputs, inputs) = node.attrs["group"], node.inputs[1].values.shape[:2]
    # A Split that separates the outputs again needs whole blocks.
    readers = node.outputs[0].outputs
    if len(readers) == 1 and readers[0].op == "Relu":
        readers = readers[0].outputs[0].outputs
    parts = len(readers[0].outputs) if len(readers) == 1 and _splits_channels(readers[0]) else 1
    return block_count(groups, max(inputs, outputs // groups), parts if groups % parts == 0 else 1)


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
    """A tensor as `count` outputs of the convolution that computes it, including ReLUs; empty if others read it too."""
    relu = producer(tensor, "Relu")
    convolved = relu.inputs[0] if relu else tensor
    before = producer(convolved, "Conv")
    alone = before and len(tensor.outputs) == 1 and len(convolved.outputs) == 1
    if not alone or before.attrs.get("group", 1) > 1:
        return []
    values = zip(*(np.split(value.values, count) for value in before.inputs[1:]), strict=True)
    parts = [convolution(graph, before, f"part{i}", before.inputs[0], *part) for i, part in enumerate(values)]
    before.outputs.clear()
    name_parts(convolved, parts)
    if relu:
        parts = [append(graph, "Relu", [part], like=part) for part in parts]
        name_parts(tensor, parts)
    return parts


def split_convolutions_instead_of_maps(graph: gs.Graph) -> None:
    """Replaces a Split into equal parts after a convolution by one convolution per part: Res2Net's hierarchy, IBN-a's halves.

    Then no map is copied, and the BatchNorm after IBN-a's half can be folded.
    """
    for node in [node for node in graph.nodes if _splits_channels(node)]:
        if len(set(node.inputs[1].values)) > 1:
            continue
        parts = _split_producer(graph, node.inputs[0], len(node.outputs))
        for old, new in zip(list(node.outputs) if parts else [], parts, strict=True):
            rewire(graph, old, new)
        if parts:
            node.outputs.clear()


def _replace_group_outputs(graph: gs.Graph, node: gs.Node, outputs: list[gs.Variable]) -> None:
    """Connects each group's output to its readers: a Relu moves into the groups, and a following Split takes whole groups."""
    whole = node.outputs[0]
    if len(whole.outputs) == 1 and whole.outputs[0].op == "Relu":
        relu = whole.outputs[0]
        outputs = [append(graph, "Relu", [output], like=output) for output in outputs]
        name_parts(relu.outputs[0], outputs)
        whole = relu.outputs[0]
        relu.outputs.clear()
    split = whole.outputs[0] if len(whole.outputs) == 1 and _splits_channels(whole.outputs[0]) else None
    if split and len(outputs) % len(split.outputs) == 0 and len(set(split.inputs[1].values)) == 1:
        readers, split_outputs = len(split.outputs), list(split.outputs)
        split.outputs.clear()
    else:
        readers, split_outputs = 1, [whole]
    each = len(outputs) // readers
    for index, old in enumerate(split_outputs):
        members = outputs[index * each : (index + 1) * each]
        new = members[0] if each == 1 else append(graph, "Concat", members, attrs={"axis": 1}, like=old)
        rewire(graph, old, new)
