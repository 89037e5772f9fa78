"""Whether a TensorFlow can load a SavedModel's nodes: its operators, their attributes, the functions they call.

`tests/export/test_check.py` compares each rule with a real TensorFlow.
"""

from collections.abc import Iterator
from typing import Any

from export.checker.finding import Finding
from export.checker.nodes import bodies, function_names, type_name
from export.checker.registry import Registry, first_version_with
from export.saved_model_file import SavedGraph

_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type", "shape": "shape", "func": "func"}
"""Attribute type → field of AttrValue; for every list it is "list"."""


def check_nodes(graph: SavedGraph, registry: Registry) -> list[Finding]:
    """Everything in the SavedModel's nodes for which `registry`'s TensorFlow would not load it."""
    defaults: dict = {}
    findings: list[Finding] = []
    if not graph.has_objects:
        # A graph lists the operators that it was written with, and attributes with their default values are dropped.
        ops = graph.meta_graph.meta_info_def.stripped_op_list.op
        defaults = {op.name: {a.name: a.default_value for a in op.attr if a.HasField("default_value")} for op in ops}
        findings += _check_versions(graph.meta_graph.graph_def.versions, registry)
    for function, nodes in bodies(graph).items():
        for node in nodes:
            findings += [
                Finding(problem, remedy, node.name, node.op, function)
                for problem, remedy in _check_node(node, graph, registry, defaults.get(node.op, {}))
            ]
    return findings


def _check_versions(versions: Any, registry: Registry) -> Iterator[Finding]:
    known = registry.graph_def
    remedy = "Write the SavedModel with tf.saved_model.save, in TensorFlow 2's manner"
    if versions.min_consumer > known["producer"]:
        yield Finding(f"the graph wants version {versions.min_consumer} or newer, this is {known['producer']}", remedy)
    if versions.producer < known["min_producer"]:
        yield Finding(f"the graph is of version {versions.producer}, older than {known['min_producer']}", remedy)
    if known["producer"] in versions.bad_consumers:
        yield Finding(f"the graph says that version {known['producer']} reads it incorrectly", remedy)


def _check_node(node: Any, graph: SavedGraph, registry: Registry, defaults: dict) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of everything that prevents one node from being loaded."""
    for name in function_names(node, graph):
        if name not in graph.functions:
            yield f"calls the function {name!r}, which is not in the SavedModel", "Save the model again"
    if node.op in graph.functions:
        return
    if node.op not in registry.ops:
        advice = (
            "Make weights constants, as `python export/to_savedmodel.py` does: newer TensorFlow versions add it to variables"
            if node.op == "DisableCopyOnRead"
            else "Write the layer with older operators"
        )
        yield f"TensorFlow {registry.tensorflow} has no operator {node.op}{_since(node.op)}", advice
        return
    known = registry.ops[node.op]["attrs"]
    for name, value in node.attr.items():
        if name in known:
            yield from _check_value(name, value, known[name], registry)
        elif not name.startswith("_") and not registry.takes_unknown_attributes and value != defaults.get(name):
            yield (
                f"{node.op} has no attribute {name!r} in TensorFlow {registry.tensorflow}{_since(node.op, name)}; "
                f"found {_shown(value)}",
                "Use the form of the layer without it, or remove it if it states the default",
            )
    for name, attribute in known.items():
        if name not in node.attr and "default" not in attribute:
            yield f"the attribute {name!r} is missing and has no default", "Save the model again"


def _check_value(name: str, value: Any, attribute: dict, registry: Registry) -> Iterator[tuple[str, str]]:
    kind = attribute["type"]
    is_list = kind.startswith("list(")
    field = value.WhichOneof("value")
    expected = "list" if is_list else _FIELDS.get(kind, kind)
    if field not in (expected, None, "placeholder"):
        yield f"attribute {name!r} was expected to be of type {kind}, found {_shown(value)}", "Save the model again"
        return
    if kind in ("type", "list(type)"):
        values = [type_name(number) for number in (value.list.type if is_list else [value.type])]
        for unknown in set(values) - set(registry.types):
            yield (
                f"attribute {name!r} is of the type {unknown}, which TensorFlow {registry.tensorflow} does not have",
                "Compute in float32",
            )
            return
    elif kind in ("string", "list(string)"):
        values = [text.decode("utf-8", "replace") for text in (value.list.s if is_list else [value.s])]
    else:
        values = []
    allowed = attribute.get("allowed")
    for wrong in [v for v in values if allowed and v not in allowed]:
        yield f"attribute {name!r} was expected to be one of {', '.join(allowed)}, found {wrong}", "Change the layer"
    least, count = attribute.get("minimum"), _length(value.list) if is_list else value.i
    if least is not None and count < least:
        yield f"attribute {name!r} was expected to be at least {least}, found {count}", "Save the model again"


def _since(operator: str, name: str | None = None) -> str:
    version = first_version_with(operator, name)
    return f" (first in {version})" if version else ""


def _length(values: Any) -> int:
    return max((len(field) for _, field in values.ListFields()), default=0)


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 80 else text[:77] + "…"
