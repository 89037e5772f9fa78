"""What nodes of a graph say: their attributes, their types, and the functions that they call."""

from typing import Any

from export.checker.registry import Registry
from export.saved_model_file import SavedGraph


def called_functions(graph: SavedGraph, nodes: Any) -> list[str]:
    """Names of the library's functions that nodes call, directly or indirectly."""
    found: dict[str, None] = {}
    waiting = list(nodes)
    while waiting:
        for name in function_names(waiting.pop(), graph):
            if name in graph.functions and name not in found:
                found[name] = None
                waiting += graph.functions[name].node_def
    return list(found)


def bodies(graph: SavedGraph) -> dict[str, Any]:
    """{function: its nodes} of all that TensorFlow loads; "" is the graph itself.

    Of a SavedModel of objects these are all functions, called or not, and not the graph; of one in the style of TensorFlow 1 the graph
    and the functions that it calls.
    """
    if graph.has_objects:
        return {name: function.node_def for name, function in graph.functions.items()}
    nodes = graph.meta_graph.graph_def.node
    return {"": nodes} | {name: graph.functions[name].node_def for name in called_functions(graph, nodes)}


def attribute_types(node: Any, name: str, registry: Registry) -> list[str]:
    """The types that an attribute of a node says, such as ["DT_FLOAT"]; its default's if it is not set."""
    if name in node.attr:
        value = node.attr[name]
        return [type_name(number) for number in (value.list.type or [value.type])]
    default = registry.ops[node.op]["attrs"].get(name, {}).get("default", {})
    return [default["type"]] if "type" in default else default.get("list", {}).get("type", [])


def function_names(node: Any, graph: SavedGraph) -> list[str]:
    """Names of the functions that a node calls, whether they exist or not."""
    attributes = node.attr.values()
    names = [value.func.name for value in attributes] + [f.name for value in attributes for f in value.list.func]
    return [name for name in names if name] + ([node.op] if node.op in graph.functions else [])


def attribute(node: Any, name: str) -> Any:
    """An attribute's AttrValue, or an empty one if it is not set; accessing it on the node would set it."""
    return node.attr[name] if name in node.attr else type(node).AttrEntry().value


def type_name(number: int) -> str:
    """A type's name, such as "DT_FLOAT", without the reference mark; "DT_<number>" if the current TensorFlow does not know it."""
    from tensorflow.core.framework import types_pb2

    try:
        return types_pb2.DataType.Name(number).removesuffix("_REF")
    except ValueError:
        return f"DT_{number}"
