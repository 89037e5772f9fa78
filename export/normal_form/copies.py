"""Copies of whole tensors, which say nothing but a new shape."""

import math

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from export import onnx_runtime
from export.normal_form.surgery import producer


def gathers_of_everything(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces a Gather that takes every value of a flattened tensor in its order by a Reshape of the tensor.

    That is how the newer back end of torch.onnx writes `as_strided`, for example behind a mean over a map. It computes the indices
    from the batch, which is still open here.

    Args:
        model: one input float32 [N or 1, 3, H, W].
    """
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(model))
    batch, *size = graph.inputs[0].shape
    batches = (batch,) if isinstance(batch, int) else (2, 3)
    found = False
    for node in [node for node in graph.nodes if node.op == "Gather" and node.attrs.get("axis", 0) == 0]:
        flattened = producer(node.inputs[0], "Reshape")
        if flattened is None or len(node.inputs[0].shape or ()) != 1:
            continue
        each = flattened.inputs[0].shape[1:] if flattened.inputs[0].shape else [None]
        indices = {count: _indices(model, node.inputs[1], (count, *size)) for count in batches}
        if all(_takes_everything(values, count, each) for count, values in indices.items()):
            shape = np.array([-1, *indices[batches[0]].shape[1:]], np.int64)
            node.op, node.attrs = "Reshape", {}
            node.inputs = [flattened.inputs[0], gs.Constant(f"{node.name}/shape", shape)]
            found = True
    return gs.export_onnx(graph.cleanup()) if found else model


def _takes_everything(indices: np.ndarray, batch: int, each: list) -> bool:
    """Whether indices of a batch count through all values of images with lengths `each`, image by image."""
    whole = all(isinstance(length, int) for length in each) and indices.size == batch * math.prod(each)
    return whole and indices.shape[:1] == (batch,) and np.array_equal(indices.reshape(-1), np.arange(indices.size))


def _indices(model: onnx.ModelProto, tensor: gs.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a tensor of integers for images of a shape."""
    if isinstance(tensor, gs.Constant):
        return tensor.values
    part = gs.import_onnx(model)
    part.outputs = [part.tensors()[tensor.name].to_variable(np.int64)]
    running = onnx_runtime.session(gs.export_onnx(part.cleanup()))
    return onnx_runtime.run(running, np.zeros(shape, np.float32))[0]
