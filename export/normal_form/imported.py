"""Any convolutional network's ONNX file → the form that the writer has operators for, for images of one size and any batch.

The zoo's own networks have a form of their own (`export/normal_form/rewrites.py`), for dynamic sizes. Here the size is constant, so
what an exporter computes from it (adaptive pooling, padding, Reshapes) becomes a constant too. As there, each rewrite is proven in ONNX
Runtime before TensorFlow starts.
"""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from export import onnx_runtime
from export.normal_form.absorb import constants_into_convolutions
from export.normal_form.any_batch import simplified_for_any_batch
from export.normal_form.grouped import split_convolutions_instead_of_maps, split_grouped_convolutions
from export.normal_form.linear import linear_layers_as_convolutions
from export.normal_form.maps import instance_norm_by_means, mean_by_rows, powers_by_logarithm, same_padding
from export.normal_form.norms import batch_norm_as_scale_and_shift, lengths_by_sums
from export.normal_form.opset import operators_of_opset_13
from export.normal_form.rewrites import on_graph, simplify
from export.normal_form.windows import convolutions_of_maps, global_pooling_by_reduction, poolings_of_maps
from export.onnx_names import rename
from export.parity.probes import picture
from zoo.errors import ExportError
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec
from zoo.tolerances import TOLERANCES, compare

Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto] | Callable[[gs.Graph], None]
_OF_MODELS = (simplified_for_any_batch, simplify)
_PROOF_BATCHES = (3, 1)


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
    metadata = list(model.metadata_props)
    batches = _probes(preprocess)
    alone, whole = onnx_runtime.session(model), [np.concatenate(batches), batches[0]]
    # One picture at a time: the file may have been exported for a batch of one.
    single = [onnx_runtime.run(alone, picture)[0] for picture in batches]
    expected = [np.concatenate(single), single[0]]
    named = onnx.ModelProto.FromString(model.SerializeToString())
    rename(named, {})
    model = named
    for rewrite in IMPORTED_REWRITES:
        before_rewrite, model = model, rewrite(model) if rewrite in _OF_MODELS else on_graph(rewrite, model)
        if _structure(model) == _structure(before_rewrite):
            continue
        running = onnx_runtime.session(model)
        for before, batch in zip(expected, whole, strict=True):
            difference = compare(before, onnx_runtime.run(running, batch)[0])
            if not difference.within(TOLERANCES["onnx → normal form"]):
                raise ExportError(
                    f"the rewrite {rewrite.__name__!r} changed the network: {difference} for a batch of {len(batch)}. "
                    "Please report this, with the file."
                )
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)
    onnx.checker.check_model(model)
    return model


def _structure(model: onnx.ModelProto) -> list:
    """A graph without its weights' values, which no rewrite changes without making a new constant or node."""
    weights = [(tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer]
    return [*(node.SerializeToString() for node in model.graph.node), *weights]


def _probes(preprocess: PreprocessSpec) -> list[np.ndarray]:
    """Normalised pictures float32 [1, 3, size, size]."""
    random, size = np.random.default_rng(0), preprocess.size
    return [normalise(picture(random, size, size)[None], preprocess) for _ in range(_PROOF_BATCHES[0])]


IMPORTED_REWRITES: tuple[Rewrite, ...] = (
    simplified_for_any_batch,
    operators_of_opset_13,
    convolutions_of_maps,
    linear_layers_as_convolutions,
    split_convolutions_instead_of_maps,
    simplify,  # folds BatchNorm into what has become a convolution
    instance_norm_by_means,
    lengths_by_sums,
    batch_norm_as_scale_and_shift,
    constants_into_convolutions,
    split_grouped_convolutions,
    global_pooling_by_reduction,
    poolings_of_maps,
    powers_by_logarithm,
    mean_by_rows,
    same_padding,
)
