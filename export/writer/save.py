"""Networks → the files of a SavedModel that TensorFlow 2.2 loads.

The current TensorFlow writes placeholders instead of weights; the weights are inserted into the file afterwards, so that
TensorFlow, which copies a graph a dozen times, never copies them. Weights beyond the 2 GiB limit of a file are stored as
variables, and whatever TensorFlow 2.2 does not know is removed from the file.

This module imports TensorFlow; the rest of `export` imports it inside functions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.quiet_tensorflow import import_tensorflow, quiet_stderr
from export.saved_model_file import read_saved_model
from export.writer.combine import Combination
from export.writer.graph import PIXELS, NetworkGraph
from export.writer.member import FUNCTION, VARIABLES, Member
from zoo.constants import SQUARED_NORM_EPSILON
from zoo.errors import ExportError
from zoo.signature import BATCH_SIGNATURE, CONTEST_INPUT, CONTEST_SIGNATURE, DESCRIPTOR, read_batch_input

tf = import_tensorflow()

MOST_CONSTANT_BYTES = 128 * 2**20
"""Larger weights become variables by default. Constants are a fifth faster in the current TensorFlow (which stores them in its
kernels' layout) and no faster in 2.2, but the current TensorFlow needs 20 times their size in memory to start."""
_LARGEST_FILE = 2**31 - 2**26
"""A protobuf message is limited to 2 GiB, part of which the nodes need."""


def write_saved_model(
    folder: Path, members: Sequence[Member], combination: Combination, *, variables: bool | None = None
) -> None:
    """Writes one SavedModel of one or more members; `folder` must be empty or new.

    Args:
        folder: where saved_model.pb and, with variables, variables/ are written.
        members: in the order of the concatenation.
        combination: what is computed before and after them.
        variables: store the weights as variables, not as constants; by default only if they are large.

    Raises:
        ExportError: constants that do not fit, or a member of one static size that is to be served at several scales.
    """
    size = sum(member.weight_bytes for member in members)
    variables = size > MOST_CONSTANT_BYTES if variables is None else variables
    if not variables and size > _LARGEST_FILE:
        raise ExportError(f"{size:,} bytes of weights do not fit into one graph as constants; store them as variables")
    for member in members:
        _require_sizes(member, combination)
    functions = [_Function(member, variables=variables) for member in members]
    served = tf.Module()
    setattr(served, VARIABLES, [function.variables for function in functions])
    inputs = sorted({name for member in members for name in combination.views(member.input)})

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8, name=CONTEST_INPUT)])
    def embed_image(image: Any) -> dict:
        batch = tf.cast(image[None], tf.float32)
        return {DESCRIPTOR: descriptors({name: _resized(batch, name) for name in inputs})[0]}

    @tf.function
    def embed_resized(**images: Any) -> dict:
        return {DESCRIPTOR: descriptors(images)}

    def descriptors(resized: dict) -> Any:
        parts = [
            combination.member(
                [
                    view
                    for name in combination.views(member.input)
                    for view in function.views(resized[name], combination)
                ],
                _Graph,
            )
            for member, function in zip(members, functions, strict=True)
        ]
        return combination.combine(parts, [member.weight for member in members], _Graph)

    batches = {name: _batch_spec(name, members) for name in inputs}
    served.embed_image, served.embed_resized = embed_image, embed_resized.get_concrete_function(**batches)
    signatures = {CONTEST_SIGNATURE: served.embed_image, BATCH_SIGNATURE: served.embed_resized}
    _save(served, folder, signatures, functions)


def write_taps(folder: Path, graph: NetworkGraph, names: Sequence[str], signature: str) -> None:
    """Writes a SavedModel with one signature that returns all of a graph's outputs under `names`, to inspect a network."""
    served = tf.Module()
    function = _Function(Member("taps", graph, ""), variables=False)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name=PIXELS)])
    def taps(pixels: Any) -> dict:
        return dict(zip(names, function.concrete(pixels), strict=True))

    served.taps = taps
    _save(served, folder, {signature: taps}, [function])


class _Function:
    """A network as a function in TensorFlow; its weights are variables, or placeholders that `_fill` replaces."""

    def __init__(self, member: Member, *, variables: bool) -> None:
        body = member.graph
        self.constants = {} if variables else body.weights
        self.variables = {
            name: tf.Variable(array, trainable=False, name=name)
            for name, array in (body.weights.items() if variables else ())
        }
        given = {PIXELS, *self.variables}
        graph = tf.compat.v1.GraphDef(versions=body.graph_def.versions)
        graph.node.extend(node for node in body.graph_def.node if node.name not in given)

        def call(pixels: Any) -> Any:
            values = {f"{PIXELS}:0": pixels}
            for name, variable in self.variables.items():
                values[f"{name}:0"] = tf.raw_ops.ReadVariableOp(
                    resource=variable.handle, dtype=variable.dtype, name=name
                )
            return tf.graph_util.import_graph_def(graph, values, body.outputs, name="")

        call.__name__ = FUNCTION + "".join(c if c.isalnum() else "_" for c in member.name)
        self.concrete = tf.function(
            call, input_signature=[tf.TensorSpec(member.shape, tf.float32, name=PIXELS)]
        ).get_concrete_function()

    def views(self, images: Any, combination: Combination) -> list:
        """Descriptors of images [N, H, W, 3] and, with `flip`, of their mirror images."""
        if not combination.flip:
            return [self.concrete(images)[0]]
        # In one call: calling a function twice would keep its weights in memory twice.
        both = self.concrete(tf.concat([images, tf.reverse(images, axis=[2])], axis=0))[0]
        return tf.split(both, 2)


class _Graph:
    """`export.writer.combine.Arrays` in TensorFlow."""

    constant = staticmethod(tf.constant)
    matmul = staticmethod(tf.matmul)

    @staticmethod
    def concat(parts: Sequence[Any]) -> Any:
        return tf.concat(parts, axis=1)

    @staticmethod
    def unit(values: Any) -> Any:
        return tf.math.l2_normalize(values, axis=1, epsilon=SQUARED_NORM_EPSILON)


def _require_sizes(member: Member, combination: Combination) -> None:
    for view in combination.views(member.input):
        size, _ = read_batch_input(view)
        if member.shape[1] not in (None, size):
            raise ExportError(
                f"{member.name} takes only images of {member.shape[1]} px and cannot be served at {size}. "
                "Export it again without --static; a network that came as an ONNX file takes one size only."
            )


def _batch_spec(name: str, members: Sequence[Member]) -> Any:
    """A batch input's shape: any height and width, unless all members that read it take only one size."""
    shapes = {member.shape for member in members if member.input == name}
    return tf.TensorSpec(shapes.pop() if len(shapes) == 1 else [None, None, None, 3], tf.float32, name=name)


def _resized(batch: Any, name: str) -> Any:
    size, resize = read_batch_input(name)
    return tf.image.resize(batch, [size, size], "bilinear", antialias=resize == "antialias")


def _save(served: Any, folder: Path, signatures: dict, functions: Sequence[_Function]) -> None:
    with quiet_stderr():
        tf.saved_model.save(served, str(folder), signatures=signatures)
    message = read_saved_model(folder)
    library = {function.signature.name: function for function in message.meta_graphs[0].graph_def.library.function}
    for function in functions:
        _fill(library[function.concrete.function_def.signature.name].node_def, function.constants)
    _forget_what_is_newer(message.meta_graphs[0].graph_def)
    # Protobuf maps have no defined order, but the same checkpoint must give the same bytes.
    Path(folder, "saved_model.pb").write_bytes(message.SerializeToString(deterministic=True))
    Path(folder, "fingerprint.pb").unlink(missing_ok=True)  # of the file before this change


def _fill(nodes: Any, weights: dict[str, np.ndarray]) -> None:
    """Replaces a function's placeholders by constants."""
    for node in nodes:
        if node.name in weights:
            array = weights[node.name]
            node.op = "Const"
            del node.attr["shape"]
            tensor = node.attr["value"].tensor
            tensor.dtype = node.attr["dtype"].type
            for size in array.shape:
                tensor.tensor_shape.dim.add(size=size)
            tensor.tensor_content = array.tobytes()


def _forget_what_is_newer(graph: Any) -> None:
    """Removes what TensorFlow 2.2 does not know from the functions that save and restore variables.

    DisableCopyOnRead undoes a mode of variables that 2.2 does not have; validate_shape requests a check.
    """
    for function in graph.library.function:
        gone = {node.name for node in function.node_def if node.op == "DisableCopyOnRead"}
        for node in [node for node in function.node_def if node.name in gone]:
            function.node_def.remove(node)
        for node in function.node_def:
            kept = [name for name in node.input if name.removeprefix("^") not in gone]
            del node.input[:]
            node.input.extend(kept)
            if node.op == "AssignVariableOp":
                node.attr.pop("validate_shape", None)
        for output in [output for output, node in function.control_ret.items() if node in gone]:
            del function.control_ret[output]
            function.signature.control_output.remove(output)
