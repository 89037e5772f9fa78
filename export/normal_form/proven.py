"""Runs rewrites one after the other, and proves each of them in ONNX Runtime before TensorFlow starts."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxsim

from zoo.errors import ExportError
from zoo.tolerances import TOLERANCES, compare

_UNFORESEEN = (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError)
"""What surgery raises on a graph that it does not expect."""
Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]


def rewritten(
    model: onnx.ModelProto,
    rewrites: Iterable[Rewrite],
    expected: Sequence[np.ndarray],
    run: Callable[[onnx.ModelProto], Sequence[np.ndarray]],
    advice: str,
) -> onnx.ModelProto:
    """A model after all rewrites, with the metadata that it had before.

    Args:
        model: stays as it is.
        rewrites: in their order.
        expected: descriptors of several batches, float32 [N, D] each.
        run: computes the same with a rewritten model.
        advice: what a user can do about a rewrite that changed the network.

    Raises:
        ExportError: a rewrite changed the descriptors, or failed.
    """
    metadata = list(model.metadata_props)
    for rewrite in rewrites:
        before = _contents(model)
        try:
            model = rewrite(model)
        except _UNFORESEEN as error:
            raise ExportError(f"the rewrite {rewrite.__name__!r} failed: {error}. {advice}") from error
        if _contents(model) == before:
            continue
        try:
            results = run(model)
        except ExportError as error:
            raise ExportError(f"the rewrite {rewrite.__name__!r} broke the network: {error}. {advice}") from error
        for known, found in zip(expected, results, strict=True):
            difference = compare(known, found)
            if not difference.within(TOLERANCES["onnx → normal form"]):
                raise ExportError(
                    f"the rewrite {rewrite.__name__!r} changed the network: {difference} for a batch of {len(known)}. {advice}"
                )
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)
    onnx.checker.check_model(model)
    return model


def _contents(model: onnx.ModelProto) -> bytes:
    """A hash of all nodes and weights: what a rewrite leaves as it was need not be proven again."""
    found = hashlib.sha256()
    for part in (*model.graph.node, *model.graph.initializer):
        found.update(part.SerializeToString())
    return found.digest()


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxsim: computes constants, folds BatchNorm into the convolution before it, removes operators without effect."""
    simplified, _ = onnxsim.simplify(model)
    return simplified


def on_graph(rewrite: Callable[[gs.Graph], None]) -> Rewrite:
    """A rewrite that edits a graph in place, as one of a model."""

    @functools.wraps(rewrite)
    def on_model(model: onnx.ModelProto) -> onnx.ModelProto:
        # A constant may be a node or a value; after folding it is always a value.
        graph = gs.import_onnx(model).fold_constants().cleanup()
        rewrite(graph)
        return onnx.shape_inference.infer_shapes(gs.export_onnx(graph.cleanup().toposort()))

    return on_model
