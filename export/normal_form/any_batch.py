"""Files from elsewhere: shapes that the exporter computed from the input become constants, for images of one size and any batch."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxsim

from export.normal_form.norms import group_norm_by_instance_norm
from export.normal_form.proven import on_graph
from export.normal_form.resize import resize_by_constants
from export.onnx_sizes import require_known_sizes
from zoo.errors import ExportError

SKIPPED = ("fuse_pad_into_pool",)
"""Optimisations of onnxsim that break networks: a pooling may not pad by its whole kernel, and a Pad before it may."""
_LARGEST_FOLDED = 4
"""KB. What repeats a constant to more than that stays an operator, so that no tensor of a whole batch is stored."""


def simplified_for_any_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Computes all shapes for the input's height and width; only the batch stays open.

    onnxsim folds the shapes for a batch whose number, a prime, divides nothing else in the file; each folded shape that contains it
    gets a -1 there. In a file for batches of one, a Reshape to a leading 1 keeps the batch instead.

    Args:
        model: one input float32 [N or 1, 3, H, W] of constant height and width.

    Raises:
        ExportError: the shapes cannot be inferred, or something that does not depend on the images would be too large.
    """
    [given] = model.graph.input
    own, *lengths = (dim.dim_value for dim in given.type.tensor_type.shape.dim)
    if any(node.op_type == "GroupNormalization" for node in model.graph.node):
        model = on_graph(group_norm_by_instance_norm)(model)  # ONNX infers no shape behind it
    if own == 1:
        model = _leading_ones_kept(model, require_known_sizes(model, lengths[-1]))
    batch = _new_number(model)
    # onnxsim computes what depends on no image, such as a Range up to the batch.
    require_known_sizes(model, lengths[-1], batch=batch, kept_above=_LARGEST_FOLDED * 1000)
    try:
        folded, _ = onnxsim.simplify(
            model,
            overwrite_input_shapes={given.name: [batch, *lengths]},
            tensor_size_threshold=f"{_LARGEST_FOLDED}KB",
            skipped_optimizers=list(SKIPPED),
        )
        inferred = onnx.shape_inference.infer_shapes(folded, strict_mode=True, data_prop=True)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the sizes of its tensors cannot be inferred: {' '.join(str(error).split())[:400]}"
        ) from error
    graph = gs.import_onnx(inferred)
    for node in [node for node in graph.nodes if node.op == "Resize"]:
        resize_by_constants(graph, node)
    for node in graph.nodes:
        if node.op in ("Reshape", "Expand"):
            _open_batch(node, batch)
        elif node.op == "ConstantOfShape" and isinstance(node.inputs[0], gs.Constant):
            wanted = node.inputs[0].values  # what reads it repeats it for each image
            node.inputs[0] = gs.Constant(f"{node.name}/shape", np.where(wanted % batch, wanted, 1))
    graph.inputs[0].shape = ["N", *lengths]
    _forget_shapes(graph)
    return onnx.shape_inference.infer_shapes(gs.export_onnx(graph.cleanup().toposort()))


def _new_number(model: onnx.ModelProto) -> int:
    """A prime that divides no integer of the file, so that a length that it divides contains the batch."""
    numbers = np.concatenate([[1], *(_integers(tensor) for tensor in model.graph.initializer)])
    return next(n for n in _PRIMES if (numbers % n).all())


_PRIMES = [n for n in range(4099, 20_000, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2))]


def _integers(tensor: onnx.TensorProto) -> np.ndarray:
    """A weight's lengths, and its values if they are integers; without zeros."""
    values = onnx.numpy_helper.to_array(tensor).reshape(-1) if tensor.data_type == onnx.TensorProto.INT64 else []
    found = np.array([*tensor.dims, *values], np.int64)
    return found[found != 0]


def _open_batch(node: gs.Node, batch: int) -> None:
    """Replaces the batch in a constant shape: by the rest of a Reshape, or by the length that an Expand keeps."""
    shape, result = node.inputs[1], node.outputs[0].shape
    lengths = result if node.op == "Reshape" and result else getattr(shape, "values", None)
    if lengths is None or not any(isinstance(length, int | np.integer) and length % batch == 0 for length in lengths):
        return
    kept = -1 if node.op == "Reshape" else 1
    values = [kept if length and length % batch == 0 else length for length in map(int, lengths)]
    node.inputs[1] = gs.Constant(f"{node.name}/opened", np.array(values, np.int64))
    node.attrs.pop("allowzero", None)


def _leading_ones_kept(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A file for batches of one, whose Reshapes keep the length of the first axis where they say 1.

    Args:
        model: the file.
        sizes: the lengths of its tensors; ONNX infers none behind a Slice whose ends are computed.
    """
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(model, data_prop=True)).fold_constants()
    for node in [node for node in graph.nodes if node.op == "Reshape" and isinstance(node.inputs[1], gs.Constant)]:
        values, before = node.inputs[1].values, sizes.get(node.inputs[0].name)
        if len(values) and values[0] == 1 and before and before[0] == 1:
            node.inputs[1] = gs.Constant(f"{node.name}/shape", np.array([0, *values[1:]], np.int64))
            node.attrs.pop("allowzero", None)
    _forget_shapes(graph)
    return gs.export_onnx(graph.cleanup())


def _forget_shapes(graph: gs.Graph) -> None:
    """So that they are inferred again, for another batch."""
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor is not graph.inputs[0]:
            tensor.shape = None
    for output in graph.outputs:  # an ONNX file must say how many axes an output has
        output.shape = ["N", "D"]
