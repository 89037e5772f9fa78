"""Files from elsewhere: shapes that the exporter computed from the input become constants, for images of one size and any batch."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxsim

from export.onnx_sizes import require_known_sizes
from zoo.errors import ExportError

_BATCH = 4099
"""A prime: a length in a folded shape that is a multiple of it contains the batch."""
_LARGEST_FOLDED = 4
"""KB. What repeats a constant to more than that stays an operator, because it may be repeated for each image."""


def simplified_for_any_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Computes all shapes for the input's height and width; only the batch stays open.

    onnxsim folds the shapes for a batch whose number occurs nowhere else, and each folded shape in which it is found gets a -1
    there. In a file for batches of one, a Reshape to a leading 1 keeps the batch instead.

    Args:
        model: one input float32 [N or 1, 3, H, W] of constant height and width.

    Raises:
        ExportError: the shapes cannot be inferred, or something that does not depend on the images would be too large.
    """
    [given] = model.graph.input
    batch, *lengths = (dim.dim_value for dim in given.type.tensor_type.shape.dim)
    if batch == 1:
        model = _leading_ones_kept(model)
    # onnxsim computes what depends on no image, such as a Range up to the batch.
    require_known_sizes(model, lengths[-1], batch=_BATCH, kept_above=_LARGEST_FOLDED * 1000)
    try:
        folded, _ = onnxsim.simplify(
            model,
            overwrite_input_shapes={given.name: [_BATCH, *lengths]},
            tensor_size_threshold=f"{_LARGEST_FOLDED}KB",
        )
        inferred = onnx.shape_inference.infer_shapes(folded, strict_mode=True, data_prop=True)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the sizes of its tensors cannot be inferred: {' '.join(str(error).split())[:400]}"
        ) from error
    graph = gs.import_onnx(inferred)
    for node in graph.nodes:
        if node.op in ("Reshape", "Expand"):
            _open_batch(node)
        elif node.op == "ConstantOfShape" and isinstance(node.inputs[0], gs.Constant):
            wanted = node.inputs[0].values  # what reads it repeats it for each image
            node.inputs[0] = gs.Constant(f"{node.name}/shape", np.where(wanted % _BATCH, wanted, 1))
        elif node.op == "Resize":
            _scale(node)
    graph.inputs[0].shape = ["N", *lengths]
    _forget_shapes(graph)
    return onnx.shape_inference.infer_shapes(gs.export_onnx(graph))


def _open_batch(node: gs.Node) -> None:
    """Replaces the batch in a constant shape: by the rest of a Reshape, or by the length that an Expand keeps."""
    shape, result = node.inputs[1], node.outputs[0].shape
    lengths = result if node.op == "Reshape" and result else getattr(shape, "values", None)
    if lengths is None or not any(isinstance(length, int | np.integer) and length % _BATCH == 0 for length in lengths):
        return
    kept = -1 if node.op == "Reshape" else 1
    values = [kept if length and length % _BATCH == 0 else length for length in map(int, lengths)]
    node.inputs[1] = gs.Constant(f"{node.name}/shape", np.array(values, np.int64))
    node.attrs.pop("allowzero", None)


def _scale(node: gs.Node) -> None:
    """Replaces the sizes of a Resize, of which one is the batch, by scales."""
    if len(node.inputs) < 4 or not isinstance(node.inputs[3], gs.Constant):
        return
    before, after = node.inputs[0].shape, [int(size) for size in node.inputs[3].values]
    scales = np.divide(after, before, dtype=np.float64).astype(np.float32)
    short = np.floor(np.float64(before) * scales) < after  # by rounding
    scales = np.where(short, np.nextafter(scales, np.float32(np.inf)), scales)
    node.inputs = [*node.inputs[:2], gs.Constant(f"{node.name}/scales", scales)]


def _leading_ones_kept(model: onnx.ModelProto) -> onnx.ModelProto:
    """A file for batches of one, whose Reshapes keep the length of the first axis where they say 1."""
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(model, data_prop=True)).fold_constants()
    for node in [node for node in graph.nodes if node.op == "Reshape" and isinstance(node.inputs[1], gs.Constant)]:
        values, before = node.inputs[1].values, node.inputs[0].shape
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
