"""Whether nodes read tensors of the type that they expect, with the operators of a given TensorFlow.

A newer TensorFlow gives an operator an attribute that chooses the type of a result. Older ones that drop unknown attributes load the
node, and then its result is of another type than its readers expect: `tf.math.top_k` with indices of int64.
"""

from typing import Any

from export.checker.finding import Finding
from export.checker.nodes import attribute_types, bodies, type_name
from export.checker.registry import Registry
from export.saved_model_file import SavedGraph

_Types = list[str] | None
"""Types of the tensors that an input or an output is; None if they are not known."""


def check_types(graph: SavedGraph, registry: Registry) -> list[Finding]:
    """Nodes for which loading fails because a tensor that they read is of another type."""
    found = []
    for function, nodes in bodies(graph).items():
        arguments = graph.functions[function].signature.input_arg if function else []
        written = {arg.name: kind for arg in arguments for kind in _fixed(arg) or ()}
        for node in nodes:
            written |= _written(node, graph, registry, in_function=bool(function))
        for node in nodes:
            names = [name for name in node.input if not name.startswith("^")]
            expected = _expected(node, graph, registry)
            if expected is None or len(expected) != len(names):
                continue
            for name, kind in zip(names, expected, strict=True):
                if written.get(name, kind) != kind:
                    problem = (
                        f"expects {kind} and reads {written[name]} from {name!r}, the only type that it has in "
                        f"TensorFlow {registry.tensorflow}"
                    )
                    remedy = "Use the layer's default type, and cast the result"
                    found.append(Finding(problem, remedy, node.name, node.op, function))
    return found


def _written(node: Any, graph: SavedGraph, registry: Registry, *, in_function: bool) -> dict[str, str]:
    """{name by which other nodes read it: type} of a node's outputs, as far as they are known."""
    if node.op in graph.functions:
        outputs = [(arg.name, _fixed(arg)) for arg in graph.functions[node.op].signature.output_arg]
    elif node.op in registry.ops:
        outputs = [(arg[0], _types(node, arg, registry)) for arg in registry.ops[node.op]["out"]]
    else:
        return {}
    if in_function:
        return {f"{node.name}:{name}:{i}": kind for name, kinds in outputs for i, kind in enumerate(kinds or ())}
    found: dict[str, str] = {}
    for _, kinds in outputs:
        if kinds is None:  # how many tensors it is, is not known either
            break
        found |= {f"{node.name}:{len(found) + i}": kind for i, kind in enumerate(kinds)}
    return found | ({node.name: found[f"{node.name}:0"]} if found else {})


def _expected(node: Any, graph: SavedGraph, registry: Registry) -> _Types:
    if node.op in graph.functions:
        kinds = [_fixed(arg) for arg in graph.functions[node.op].signature.input_arg]
    elif node.op in registry.ops:
        kinds = [_types(node, arg, registry) for arg in registry.ops[node.op]["in"]]
    else:
        return None
    return None if None in kinds else [kind for some in kinds for kind in some or ()]


def _fixed(arg: Any) -> _Types:
    """The type of a function's argument or result, unless an attribute of its calls decides it."""
    return [type_name(arg.type)] if arg.type else None


def _types(node: Any, arg: list[str], registry: Registry) -> _Types:
    _, fixed, type_attr, number_attr, list_attr = arg
    if list_attr:
        return attribute_types(node, list_attr, registry)
    kinds = [fixed.removesuffix("_REF")] if fixed else attribute_types(node, type_attr, registry)
    if not number_attr:
        return kinds or None
    return kinds * node.attr[number_attr].i if kinds and number_attr in node.attr else None
