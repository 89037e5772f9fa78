"""ONNX → ONNX: the form that TensorFlow 2.2 has operators for, at dynamic sizes.

No published converter supports ResNeSt in TensorFlow 2.2: it has no grouped convolution on CPUs, and reshapes, average
pooling with odd edges and dynamic sizes get lost. So the file is rewritten first, one rewrite per function, the same for
both frameworks. onnxsim folds constants and BatchNorm; the other rewrites are in this package. After each rewrite ONNX Runtime
compares the file with the original, at odd sizes, before TensorFlow starts.
"""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxsim

from export import onnx_runtime
from export.normal_form.attention import split_attention_without_reshape
from export.normal_form.grouped import split_convolutions_instead_of_maps, split_grouped_convolutions
from export.normal_form.maps import (
    batch_norm_by_scale,
    explicit_average_pooling,
    explicit_max_pooling,
    instance_norm_by_means,
    mean_by_rows,
    powers_by_logarithm,
    same_padding,
)
from export.normal_form.neck import neck_as_convolution
from export.parity.probes import picture
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec
from zoo.tolerances import TOLERANCES, compare

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
    metadata = list(model.metadata_props)
    expected = _run(model)
    for rewrite in REWRITES:
        model = rewrite(model) if rewrite is simplify else on_graph(rewrite, model)
        _prove(rewrite.__name__, expected, _run(model))
    _forbid(model)
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)
    onnx.checker.check_model(model)
    return model


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxsim: computes constants, folds BatchNorm into the convolution before it, removes operators without effect."""
    simplified, _ = onnxsim.simplify(model)
    return simplified


def on_graph(rewrite: Callable[[gs.Graph], None], model: onnx.ModelProto) -> onnx.ModelProto:
    # A constant may be a node or a value; after folding it is always a value.
    graph = gs.import_onnx(model).fold_constants().cleanup()
    rewrite(graph)
    return onnx.shape_inference.infer_shapes(gs.export_onnx(graph.cleanup().toposort()))


def _run(model: onnx.ModelProto) -> list[np.ndarray]:
    """The outputs of pictures of `PROOF_SIZES`: on white noise, untrained attention amplifies rounding to 2e-5."""
    running, random = onnx_runtime.session(model), np.random.default_rng(0)
    batches = (np.stack([picture(random, h, w) for _ in range(n)]) for n, h, w in PROOF_SIZES)
    return [onnx_runtime.run(running, normalise(batch, PreprocessSpec()))[0] for batch in batches]


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

# The second simplification folds the BatchNorm of IBN-a's half. Pooling comes later, because simplifying undoes its Pad.
REWRITES = (
    simplify,
    neck_as_convolution,
    instance_norm_by_means,
    split_convolutions_instead_of_maps,
    simplify,
    batch_norm_by_scale,
    split_grouped_convolutions,
    split_attention_without_reshape,
    explicit_average_pooling,
    explicit_max_pooling,
    powers_by_logarithm,
    mean_by_rows,
    same_padding,
)
