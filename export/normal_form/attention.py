"""Split attention without reshapes."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import append, convolution, replace
from zoo.errors import ExportError


def split_attention_without_reshape(graph: gs.Graph) -> None:
    """Computes the softmax over a split attention's radix on feature maps only.

    To find which logit weighs which split, the channel numbers are sent through the reshapes and transposes, so any exporter's
    form of them is handled. A radix of 2 is the sigmoid of the logits' difference, which the last
    1×1 convolution computes itself: a·σ(d) + b·(1 - σ(d)) = b + σ(d)·(a - b). Above 2, each logit map comes from its own
    convolution, and the softmax is written out after subtracting the largest logit.
    """
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        logits_convolution, logits = _logits(softmax)
        groups = np.moveaxis(logits, softmax.attrs.get("axis", -1), 0).reshape(
            logits.shape[softmax.attrs.get("axis", -1)], -1
        )
        products = _follow(softmax.outputs[0], logits)
        channels = np.stack([indices for _, indices in products])
        if {tuple(sorted(column)) for column in channels.T} != {tuple(sorted(column)) for column in groups.T}:
            raise ExportError(f"{softmax.name!r}: the softmax does not run over the splits that its weights multiply")
        splits = [next(i for i in mul.inputs if not _comes_from(i, softmax)) for mul, _ in products]
        total = _sum_of([mul.outputs[0] for mul, _ in products])
        weight, bias = (value.values for value in logits_convolution.inputs[1:])
        if len(products) == 2:
            first, second = channels
            difference = convolution(
                graph,
                logits_convolution,
                "difference",
                logits_convolution.inputs[0],
                weight[first] - weight[second],
                bias[first] - bias[second],
            )
            share = append(graph, "Sigmoid", [difference], like=difference)
            apart = append(graph, "Sub", splits, like=total)
            result = append(graph, "Add", [splits[1], append(graph, "Mul", [apart, share], like=apart)], like=total)
        else:
            maps = [
                convolution(graph, logits_convolution, f"logits{i}", logits_convolution.inputs[0], weight[c], bias[c])
                for i, c in enumerate(channels)
            ]
            result = _weighted_sum(graph, maps, splits)
        replace(graph, total, result)


def _weighted_sum(graph: gs.Graph, logits: list[gs.Variable], splits: list[gs.Variable]) -> gs.Variable:
    greatest = append(graph, "Max", logits, like=logits[0])
    powers = [
        append(graph, "Exp", [append(graph, "Sub", [logit, greatest], like=logit)], like=logit) for logit in logits
    ]
    total = powers[0]
    for power in powers[1:]:
        total = append(graph, "Add", [total, power], like=total)
    result = None
    for power, split in zip(powers, splits, strict=True):
        share = append(graph, "Div", [power, total], like=power)
        term = append(graph, "Mul", [split, share], like=share)
        result = term if result is None else append(graph, "Add", [result, term], like=term)
    return result


def _logits(softmax: gs.Node) -> tuple[gs.Node, np.ndarray]:
    """The convolution before a softmax, and the position of each of its channels in the softmax's input."""
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
    """Every Mul that reads the softmax's weights, with the logit channel that weighs each of its channels."""
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
    """The tensor that is the sum of all terms."""
    total = terms[0]
    for term in terms[1:]:
        add = next((node for node in total.outputs if node.op == "Add" and any(i is term for i in node.inputs)), None)
        if add is None:
            raise ExportError(f"expected the weighted splits to be added up, but nothing adds {term.name!r}")
        total = add.outputs[0]
    return total
