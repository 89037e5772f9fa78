"""The neck as 1×1 convolutions."""

import numpy as np
import onnx_graphsurgeon as gs

from export.normal_form.surgery import affine, append, pointwise, producer, replace


def neck_as_convolution(graph: gs.Graph) -> None:
    """Replaces the neck's linear layers, with bias and BatchNorm on either side, by 1×1 convolutions on the pooled 1×1 map.

    They then use the same operator as the rest of the network, without a Reshape.
    """
    for node in [node for node in graph.nodes if node.op in ("MatMul", "Gemm")]:
        weight = node.inputs[1].values if node.op == "Gemm" and node.attrs.get("transB") else node.inputs[1].values.T
        bias = node.inputs[2].values if len(node.inputs) > 2 else np.zeros(len(weight), np.float32)
        pooled, last = node.inputs[0], node
        if norm := producer(pooled, "BatchNormalization"):
            scale, shift = affine(norm)
            weight, bias, pooled = weight * scale, bias + weight @ shift, norm.inputs[0]
        while (reader := last.outputs[0].outputs[0] if len(last.outputs[0].outputs) == 1 else None) is not None:
            if reader.op == "BatchNormalization":
                scale, shift = affine(reader)
                weight, bias = weight * scale[:, None], bias * scale + shift
            elif reader.op == "Add" and isinstance(reader.inputs[1], gs.Constant):
                bias = bias + reader.inputs[1].values
            else:
                break
            last = reader
        _keep_map(pooled)
        embedding = pointwise(graph, node, pooled, weight, bias)
        axes = gs.Constant(f"{node.name}/axes", np.array([2, 3], np.int64))
        replace(graph, last.outputs[0], append(graph, "Squeeze", [embedding, axes], like=embedding))


def _keep_map(pooled: gs.Variable) -> None:
    """Makes everything between the pooling and a neck keep the two spatial dimensions of size 1."""
    pooled.shape, node = None, pooled.inputs[0]
    if node.op in ("ReduceMean", "ReduceMax"):
        node.attrs["keepdims"] = 1
        return
    for index, tensor in enumerate(node.inputs):
        if squeeze := producer(tensor, "Squeeze"):  # of the neck, before its whitening
            node.inputs[index] = squeeze.inputs[0]
        elif isinstance(tensor, gs.Variable) and tensor.inputs:
            _keep_map(tensor)
