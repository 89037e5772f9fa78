"""ONNX → ONNX: the form that TensorFlow 2.2 has operators for, at dynamic sizes.

No published converter supports ResNeSt in TensorFlow 2.2: it has no grouped convolution on CPUs, and reshapes, average
pooling with odd edges and dynamic sizes get lost. So the file is rewritten first, one rewrite per function, the same for
both frameworks. onnxsim folds constants and BatchNorm; the other rewrites are in this package. After each rewrite ONNX Runtime
compares the file with the original, at odd sizes, before TensorFlow starts.
"""

import numpy as np
import onnx

from export import onnx_runtime
from export.normal_form.attention import split_attention_without_reshape
from export.normal_form.grouped import split_convolutions_instead_of_maps, split_grouped_convolutions
from export.normal_form.maps import (
    explicit_average_pooling,
    explicit_max_pooling,
    mean_by_rows,
    powers_by_logarithm,
    same_padding,
)
from export.normal_form.neck import neck_as_convolution
from export.normal_form.norms import batch_norm_by_scale, instance_norm_by_means
from export.normal_form.proven import on_graph, rewritten, simplify
from export.parity.probes import picture
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec

PROOF_SIZES = ((2, 64, 64), (1, 97, 131), (1, 33, 65))
"""(batch, height, width) at which every rewrite is proven, with odd edges and a batch above one."""


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrites a network's ONNX file into the normal form.

    Args:
        model: one input float32 [N, 3, H, W], one output; all sizes but the channels may be dynamic.

    Returns:
        A new model with the same input and output names and the metadata of the old one.

    Raises:
        ExportError: a rewrite that changed the outputs, or an operator left over that the normal form forbids.
    """
    model = rewritten(model, REWRITES, _run(model), _run, "Export it from a checkpoint of the zoo.")
    _forbid(model)
    return model


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    """The outputs of pictures of `PROOF_SIZES`: on white noise, untrained attention amplifies rounding to 2e-5."""
    running, random = onnx_runtime.session(model), np.random.default_rng(0)
    batches = (np.stack([picture(random, h, w) for _ in range(n)]) for n, h, w in PROOF_SIZES)
    return [onnx_runtime.run(running, normalise(batch, PreprocessSpec()))[0] for batch in batches]


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

# The second simplification folds the BatchNorm of IBN-a's half. Pooling comes later, because simplifying undoes its Pad.
REWRITES = (
    simplify,
    on_graph(neck_as_convolution),
    on_graph(instance_norm_by_means),
    on_graph(split_convolutions_instead_of_maps),
    simplify,
    on_graph(batch_norm_by_scale),
    on_graph(split_grouped_convolutions),
    on_graph(split_attention_without_reshape),
    on_graph(explicit_average_pooling),
    on_graph(explicit_max_pooling),
    on_graph(powers_by_logarithm),
    on_graph(mean_by_rows),
    on_graph(same_padding),
)
