"""Whether a SavedModel has the contest's signature, loads in the given TensorFlow, and has finite weights."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from export.checker.finding import Finding
from export.checker.flat_graph import FlatGraph
from export.checker.nodes import type_name
from export.checker.registry import Registry
from export.quiet_tensorflow import quiet_stderr
from export.saved_model_file import LARGEST_PB, PB, SavedGraph
from zoo.signature import CONTEST_INPUT, CONTEST_SIGNATURE, DESCRIPTOR

_AGAIN = "Export the model with `python export/to_savedmodel.py`"


def check_contest_signature(graph: SavedGraph) -> list[Finding]:
    """Reasons why the contest's scorer, which passes one uint8 image by position, could not call it."""
    signatures = graph.meta_graph.signature_def
    if CONTEST_SIGNATURE not in signatures:
        return [Finding(f"expected the signature {CONTEST_SIGNATURE!r}, found {_names(signatures)}", _AGAIN)]
    signature = signatures[CONTEST_SIGNATURE]
    found = []
    if list(signature.inputs) != [CONTEST_INPUT]:
        found.append(f"expected {CONTEST_INPUT!r} as the only input, found {_names(signature.inputs)}")
    elif _described(signature.inputs[CONTEST_INPUT]) != "DT_UINT8 [-1, -1, 3]":
        found.append(f"expected {CONTEST_INPUT} uint8 [-1, -1, 3], found {_described(signature.inputs[CONTEST_INPUT])}")
    if DESCRIPTOR not in signature.outputs:
        found.append(f"expected the output {DESCRIPTOR!r}, found {_names(signature.outputs)}")
    else:
        descriptor = signature.outputs[DESCRIPTOR]
        rank = -1 if descriptor.tensor_shape.unknown_rank else len(descriptor.tensor_shape.dim)
        if type_name(descriptor.dtype) != "DT_FLOAT" or rank not in (-1, 1):
            found.append(f"expected {DESCRIPTOR} float32 [D], found {_described(descriptor)}")
    return [Finding(problem, _AGAIN, CONTEST_SIGNATURE) for problem in found]


def check_signatures(graph: SavedGraph) -> list[Finding]:
    """Inputs and outputs of signatures that are tensors of no node."""
    nodes = {node.name for node in graph.meta_graph.graph_def.node}
    return [
        Finding(f"{key!r} is the tensor {tensor.name[:80]!r}, and there is no such node", "Save the model again", name)
        for name, signature in graph.meta_graph.signature_def.items()
        for tensors in (signature.inputs, signature.outputs)
        for key, tensor in tensors.items()
        if tensor.WhichOneof("encoding") in ("name", None) and tensor.name.split(":")[0] not in nodes
    ]


def check_objects(graph: SavedGraph, registry: Registry) -> list[Finding]:
    """Kinds of objects and of values in signatures that are newer than the TensorFlow."""
    if not graph.has_objects:
        return []
    objects = graph.meta_graph.object_graph_def
    found = []
    for number, node in enumerate(objects.nodes):
        kind = node.WhichOneof("kind")
        if kind == "captured_tensor" and kind not in registry.object_kinds:
            problem = f"a tensor kept for a gradient; TensorFlow {registry.tensorflow} has no such objects"
            remedy = "Write out what has a gradient of its own: x * tf.sigmoid(x) for tf.nn.swish"
            tensor = node.captured_tensor
            found.append(Finding(problem, remedy, tensor.name, function=tensor.concrete_function))
        elif kind not in registry.object_kinds:
            problem = f"TensorFlow {registry.tensorflow} has no kind of object {kind or 'without a kind'!r}"
            remedy = "Save a tf.Module with nothing but the signature's function"
            found.append(Finding(problem, remedy, f"object {number}"))
        elif kind == "captured_tensor" and node.captured_tensor.concrete_function not in graph.functions:
            problem = f"was kept from the function {node.captured_tensor.concrete_function!r}, which is not there"
            found.append(Finding(problem, "Save the model again", f"object {number}"))
    signatures = [
        (name, value)
        for name, function in objects.concrete_functions.items()
        for value in (function.canonicalized_input_signature, function.output_signature)
    ]
    for node in objects.nodes:
        spec, names = node.function.function_spec, node.function.concrete_functions
        signatures += [(name, value) for value in (spec.fullargspec, spec.input_signature) for name in names[:1]]
    for name, kind in dict.fromkeys((n, kind) for n, value in signatures for kind in _unknown_kinds(value, registry)):
        problem = f"TensorFlow {registry.tensorflow} has no kind of value {kind!r}, which the function's signature has"
        found.append(Finding(problem, "Give the function tf.TensorSpec inputs and tensors as outputs", name))
    return found


def _unknown_kinds(value: Any, registry: Registry) -> Iterator[str]:
    """Kinds in a StructuredValue, at any depth, that the registry does not know."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return
    if kind not in registry.value_kinds:
        yield kind
    elif kind == "type_spec_value":
        enum = value.type_spec_value.DESCRIPTOR.enum_types_by_name["TypeSpecClass"].values_by_number
        number = value.type_spec_value.type_spec_class
        name = enum[number].name if number in enum else str(number)
        if name not in registry.type_specs:
            yield name
        yield from _unknown_kinds(value.type_spec_value.type_state, registry)
    else:
        inner = getattr(value, kind)
        parts = {
            "list_value": lambda: inner.values,
            "tuple_value": lambda: inner.values,
            "dict_value": lambda: inner.fields.values(),
            "named_tuple_value": lambda: [pair.value for pair in inner.values],
        }
        for part in parts.get(kind, list)():
            yield from _unknown_kinds(part, registry)


def check_size(graph: SavedGraph) -> list[Finding]:
    """A saved_model.pb that exceeds protobuf's limit."""
    size = (graph.folder / PB).stat().st_size
    if size <= LARGEST_PB:
        return []
    return [Finding(f"{PB} has {size} bytes; protobuf's limit is {LARGEST_PB}", "Give fewer members to the ensemble")]


def check_variables(graph: SavedGraph) -> list[Finding]:
    """Variables that cannot be read or are not finite; TensorFlow reads their files even if there are no variables."""
    ops = {node.op for node in graph.meta_graph.graph_def.node}
    if not graph.has_objects and not ops & {"VarHandleOp", "VariableV2", "Variable"}:
        return []
    with quiet_stderr():
        import tensorflow as tf

    prefix = graph.folder / "variables" / "variables"
    found = []
    try:
        with quiet_stderr():
            reader = tf.train.load_checkpoint(str(prefix))
            for name, dtype in sorted(reader.get_variable_to_dtype_map().items()):
                value = reader.get_tensor(name)
                if dtype.is_floating and (problem := _not_finite(value)):
                    layer = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
                    found.append(
                        Finding(f"the variable {problem}", "Train again, or take an earlier checkpoint", layer)
                    )
    except (ValueError, RuntimeError, IndexError, tf.errors.OpError) as error:  # IndexError: a truncated file
        return [Finding(f"variables/ cannot be read: {' '.join(str(error).split())[:300]}", "Copy the whole folder")]
    return found


def check_weights(flat: FlatGraph) -> list[Finding]:
    """Constants that the outputs need and that are not finite.

    They reject the SavedModel if they make results non-finite. A mask of infinities that is added, or a value that is only
    selected, only triggers a warning. A single infinity, as in padded max pooling, is a bound and accepted.
    """
    with quiet_stderr():
        from tensorflow.python.framework import dtypes, tensor_util

    found = []
    for part in flat.whole():
        takers: dict[str, list[str]] = {}
        for name in part.needed():
            for tensor in part.nodes[name].inputs:
                takers.setdefault(tensor.rpartition(":")[0], []).append(name)
        for name in part.needed():
            node = part.nodes[name].node
            if node.op != "Const" or not dtypes.as_dtype(node.attr["dtype"].type).is_floating:
                continue
            value = tensor_util.MakeNdarray(node.attr["value"].tensor)
            if problem := _not_finite(value):
                spreads = _WEIGHTED | (_ARITHMETIC if np.isnan(value.astype(np.float32)).any() else set())
                rejects = bool(_ops_behind(name, takers, part) & spreads)
                remedy = "Train again, or take an earlier checkpoint" if rejects else "See that it is meant"
                where = (node.name, node.op, part.nodes[name].function)
                found.append(Finding(f"the constant {problem}", remedy, *where, rejects=rejects))
    return found


_WEIGHTED = {
    *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3DBackpropInputV2", "MatMul"),
    *("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "BiasAdd"),
    *("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "If", "StatelessIf", "While", "StatelessWhile"),
}
"""Operators whose constants are weights; inputs of branches and loops are not followed."""
_ARITHMETIC = {"Add", "AddV2", "Sub", "Mul", "RealDiv"}
"""Operators that propagate NaN; infinities may be intended."""
_PASSING = {"Identity", "Cast", "Reshape", "Transpose", "ExpandDims", "Squeeze"}


def _ops_behind(name: str, takers: dict[str, list[str]], flat: FlatGraph) -> set[str]:
    """Operators that read a node's outputs, directly or through operators that pass values on unchanged."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for taker in takers.get(waiting.pop(), []):
            op = flat.nodes[taker].node.op
            found.add(op)
            waiting += [taker] if op in _PASSING else []
    return found


def _not_finite(value: np.ndarray) -> str:
    value = value.astype(np.float64) if value.dtype.kind not in "f" else value
    wrong = np.isnan(value) if value.size == 1 else ~np.isfinite(value)
    if not wrong.any():
        return ""
    first = np.unravel_index(int(np.argmax(wrong)), value.shape)
    return f"of shape {list(value.shape)} has {int(wrong.sum())} values that are not finite, the first at {[int(i) for i in first]}"


def _names(mapping: Any) -> str:
    return ", ".join(repr(name) for name in sorted(mapping)) or "none"


def _described(tensor: Any) -> str:
    shape = "of unknown rank" if tensor.tensor_shape.unknown_rank else [dim.size for dim in tensor.tensor_shape.dim]
    return f"{type_name(tensor.dtype)} {shape}"
