"""Members of a SavedModel: from a normal form, or out of a SavedModel that was written before.

This module imports TensorFlow; the rest of `export` imports it inside functions.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.quiet_tensorflow import import_tensorflow, quiet_stderr
from export.saved_model_file import read_saved_model
from export.writer.graph import DYNAMIC, PIXELS, SMALL, NetworkGraph, tensorflow_graph
from zoo.errors import ExportError
from zoo.manifest import require_manifest
from zoo.signature import batch_input
from zoo.specs import NetworkSpec

tf = import_tensorflow()
with quiet_stderr():
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

FUNCTION = "network_"
"""Prefix of a network's function in a SavedModel; the model's name follows."""


VARIABLES = "networks"
"""The keys of variables in a SavedModel's checkpoint: <VARIABLES>/<member>/<name>."""


@dataclass(frozen=True)
class Member:
    """One member as TensorFlow sees it.

    Attributes:
        name: of its model, for the names of functions.
        graph: from resized pixels float32 [N, H, W, 3], RGB, 0 to 255, to descriptors float32 [N, D].
        input: name of its images in the batch signature: size and filter of the resizing.
        weight: factor of its descriptor in the concatenation.
    """

    name: str
    graph: NetworkGraph
    input: str
    weight: float = 1.0

    @property
    def shape(self) -> tuple[int | None, ...]:
        """[N, H, W, 3] of its pixels; None for a dynamic size."""
        pixels = next(node for node in self.graph.graph_def.node if node.name == PIXELS)
        return tuple(None if dim.size < 0 else dim.size for dim in pixels.attr["shape"].shape.dim)

    @property
    def weight_bytes(self) -> int:
        """Size of its weights in a file, in bytes."""
        return sum(array.nbytes for array in self.graph.weights.values())


def member_from_onnx(model: onnx.ModelProto, spec: NetworkSpec, *, static: bool = False) -> Member:
    """A normal form as a member.

    Args:
        model: the normal form.
        spec: how images are prepared for it, and its name.
        static: take only images of the spec's size, as the contest's signature always does.

    Raises:
        ExportError: an operator that the normal form does not have.
    """
    size = spec.preprocess.size
    graph = tensorflow_graph(model, spec.preprocess, (None, size, size, 3) if static else DYNAMIC)
    return Member(spec.name, graph, batch_input(size, spec.preprocess.resize))


def member_from_saved_model(folder: str | os.PathLike, weight: float = 1.0) -> Member:
    """A member out of a SavedModel that `export.writer` wrote; nothing in it is run.

    Raises:
        ExportError: not a SavedModel, or not one of a single network with a manifest.
    """
    meta = read_saved_model(folder).meta_graphs[0]
    functions = [f for f in meta.graph_def.library.function if FUNCTION in f.signature.name]
    if len(functions) != 1:
        raise ExportError(
            f"{folder}: expected a member of one network, found {len(functions)} networks. "
            "Members are made with `python export/to_savedmodel.py`."
        )
    [function], [source] = functions, require_manifest(folder).sources
    graph, flat = function_def_to_graph_def(function)
    # A function's outputs are Identity nodes; the network's outputs are their inputs.
    identities = {node.name: node.input[0] for node in graph.node if node.op == "Identity"}
    outputs = [flat[function.ret[output.name]].partition(":")[0] for output in function.signature.output_arg]
    outputs = [name if ":" in name else f"{name}:0" for name in (identities.get(name, name) for name in outputs)]
    own = batch_input(source.spec.preprocess.size, source.spec.preprocess.resize)
    return Member(source.spec.name, NetworkGraph(graph, outputs, _take_weights(graph, folder)), own, weight)


def _take_weights(graph: Any, folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """Replaces a graph's weights, constants or variables, by placeholders and returns the weights."""
    weights = {}
    for node in graph.node:
        if node.op == "Const" and np.prod([dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]) > SMALL:
            weights[node.name] = tf.make_ndarray(node.attr["value"].tensor)
    reads = {node.name for node in graph.node if node.op == "ReadVariableOp"}
    weights |= _variables(folder, reads) if reads else {}
    # The variables are arguments, and a NoOp waits for the reads; neither belongs to the network.
    resource = tf.resource.as_datatype_enum
    arguments = {n.name for n in graph.node if n.op == "Placeholder" and n.attr["dtype"].type == resource}
    kept = [n for n in graph.node if n.name not in arguments and n.op not in ("NoOp", "Identity")]
    nodes = [_placeholder(node.name, weights[node.name]) if node.name in weights else node for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    return weights


def _variables(folder: str | os.PathLike, names: set[str]) -> dict[str, np.ndarray]:
    """The one network's variables of a SavedModel."""
    prefix = str(Path(folder, "variables", "variables"))
    # TensorFlow's escapes inside the parts of a checkpoint's keys.
    escaped = {name: name.replace(".", "..").replace("/", ".S") for name in names}
    try:
        reader = tf.train.load_checkpoint(prefix)
        return {n: reader.get_tensor(f"{VARIABLES}/0/{e}/.ATTRIBUTES/VARIABLE_VALUE") for n, e in escaped.items()}
    except (tf.errors.OpError, ValueError, KeyError) as error:
        raise ExportError(
            f"{prefix}.* do not hold the weights that {folder} reads: {error}. Copy the whole folder, or export it again."
        ) from error


def _placeholder(name: str, array: np.ndarray) -> Any:
    node = tf.compat.v1.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    return node


def in_half_precision(member: Member) -> Member:
    """The same member, with weights stored as float16 if all their values are exact in float16; it still computes in float32.

    A Cast widens each of these weights whenever the network runs.
    """
    graph_def = tf.compat.v1.GraphDef(versions=member.graph.graph_def.versions)
    weights = dict(member.graph.weights)
    for node in member.graph.graph_def.node:
        array = weights.get(node.name)
        if array is None or array.ndim != 4 or not np.array_equal(array, array.astype(np.float16)):
            graph_def.node.append(node)
            continue
        stored = _placeholder(f"{node.name}/float16", weights.pop(node.name).astype(np.float16))
        weights[stored.name] = array.astype(np.float16)
        widened = graph_def.node.add(name=node.name, op="Cast", input=[stored.name])
        widened.attr["SrcT"].type, widened.attr["DstT"].type = stored.attr["dtype"].type, node.attr["dtype"].type
        graph_def.node.append(stored)
    return replace(member, graph=NetworkGraph(graph_def, member.graph.outputs, weights))
