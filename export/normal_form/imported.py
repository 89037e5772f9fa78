"""Any convolutional network's ONNX file → the form that the writer has operators for, for images of one size and any batch.

The zoo's own networks have a form of their own (`export/normal_form/rewrites.py`), for dynamic sizes. Here the size is constant, so
what an exporter computes from it (adaptive pooling, padding, Reshapes) becomes a constant too. As there, each rewrite is proven in ONNX
Runtime before TensorFlow starts.
"""

import numpy as np
import onnx
import onnxsim

from export import onnx_runtime
from export.normal_form.absorb import constants_into_convolutions
from export.normal_form.activations import leaky_relu_behind_sums
from export.normal_form.any_batch import SKIPPED, simplified_for_any_batch
from export.normal_form.copies import gathers_of_everything
from export.normal_form.grouped import split_convolutions_instead_of_maps, split_grouped_convolutions
from export.normal_form.linear import linear_layers_as_convolutions
from export.normal_form.maps import mean_by_rows, powers_by_logarithm, same_padding
from export.normal_form.norms import (
    batch_norm_by_scale,
    groups_of_maps,
    instance_norm_by_means,
    lengths_by_sums,
)
from export.normal_form.opset import operators_of_opset_13
from export.normal_form.proven import on_graph, rewritten
from export.normal_form.windows import convolutions_of_maps, global_pooling_by_reduction, poolings_of_maps
from export.onnx_names import rename
from export.parity.probes import picture
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec

_LARGEST_BATCH = 3


def imported_form(model: onnx.ModelProto, preprocess: PreprocessSpec) -> onnx.ModelProto:
    """Rewrites a network from elsewhere with the operators that `export.writer` knows.

    Args:
        model: one input float32 [N or 1, 3, size, size], one output; opset 13 or newer.
        preprocess: how pictures become its input.

    Returns:
        A new model for any batch, with the same input and output names and the metadata of the old one.

    Raises:
        ExportError: a rewrite that changed the outputs or failed.
    """
    pictures = _pictures(preprocess)
    given = onnx_runtime.session(model)
    # One at a time: the file may be for batches of one.
    descriptors = np.concatenate([onnx_runtime.run(given, pictures[[index]])[0] for index in range(len(pictures))])

    def run(rewritten_model: onnx.ModelProto) -> list[np.ndarray]:
        running = onnx_runtime.session(rewritten_model)
        return [onnx_runtime.run(running, batch)[0] for batch in (pictures, pictures[:1])]

    named = onnx.ModelProto.FromString(model.SerializeToString())
    rename(named, {})
    expected = [descriptors, descriptors[:1]]
    return rewritten(named, IMPORTED_REWRITES, expected, run, "Please report this, with the file.")


def _pictures(preprocess: PreprocessSpec) -> np.ndarray:
    """Normalised pictures float32 [N, 3, size, size]."""
    random, size = np.random.default_rng(0), preprocess.size
    return normalise(np.stack([picture(random, size, size) for _ in range(_LARGEST_BATCH)]), preprocess)


def norms_into_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxsim: folds BatchNorm into what has become a convolution."""
    simplified, _ = onnxsim.simplify(model, skipped_optimizers=list(SKIPPED))
    return simplified


IMPORTED_REWRITES = (
    gathers_of_everything,
    simplified_for_any_batch,
    on_graph(operators_of_opset_13),
    on_graph(convolutions_of_maps),
    on_graph(linear_layers_as_convolutions),
    on_graph(split_convolutions_instead_of_maps),
    norms_into_convolutions,
    on_graph(groups_of_maps),
    on_graph(instance_norm_by_means),
    on_graph(lengths_by_sums),
    on_graph(batch_norm_by_scale),
    on_graph(constants_into_convolutions),
    on_graph(leaky_relu_behind_sums),
    on_graph(split_grouped_convolutions),
    on_graph(global_pooling_by_reduction),
    on_graph(poolings_of_maps),
    on_graph(powers_by_logarithm),
    on_graph(mean_by_rows),
    on_graph(same_padding),
)
