"""Tensors that a graph makes of constants: TensorFlow computes them while it infers shapes, however large they are."""

from typing import Any

from export.quiet_tensorflow import quiet_stderr
from zoo.errors import ExportError
from zoo.limits import REPEATED_BYTES, require_at_most

_STEPS = 256
"""Operators one behind the other that compute something from constants only; networks have about ten."""


def require_small(graph_def: Any) -> None:
    """Raises `ExportError` if a node makes more than `zoo.limits.REPEATED_BYTES` of constants only.

    The nodes are imported step by step, and the sizes of each step are known before anything is computed from it.

    Args:
        graph_def: a GraphDef that can be imported.

    Raises:
        ValueError, tf.errors.OpError: it cannot.
    """
    steps = _steps(graph_def)
    if len(steps) < 2:
        return
    require_at_most(_STEPS, len(steps), "operators one behind the other on constants only", "its graph", ExportError)
    with quiet_stderr():
        import tensorflow as tf

    graph, known = tf.Graph(), {}
    with graph.as_default(), quiet_stderr():
        for nodes in steps:
            part = type(graph_def)()
            part.versions.CopyFrom(graph_def.versions)
            own = {
                f"node_{len(known)}_{number}": node for number, node in enumerate(nodes)
            }  # names may be those of scopes
            for name, node in own.items():
                part.node.add().CopyFrom(node)
                part.node[-1].name = name
            inputs = {name: known[_full(name)] for node in nodes for name in node.input}
            tf.graph_util.import_graph_def(part, input_map=inputs, name="")
            for name, node in own.items():
                for index, output in enumerate(graph.get_operation_by_name(name).outputs):
                    known[f"{node.name}:{index}"] = output
                    if output.shape.is_fully_defined():
                        size = output.shape.num_elements() * max(1, output.dtype.size)
                        require_at_most(
                            REPEATED_BYTES, size, "bytes made of constants", f"the node {node.name[:80]!r}", ExportError
                        )


def _steps(graph_def: Any) -> list[list[Any]]:
    """The constants, the nodes that read constants only, the nodes that read only these …"""
    takers: dict[str, list[Any]] = {}
    missing: dict[str, int] = {}
    for node in graph_def.node:
        missing[node.name] = len(node.input)
        for name in node.input:
            takers.setdefault(name.lstrip("^").split(":")[0], []).append(node)
    found, current = [], [node for node in graph_def.node if node.op == "Const" and not node.input]
    while current:
        found.append(current)
        following = []
        for taken in current:
            for node in takers.get(taken.name, []):
                missing[node.name] -= 1
                if not missing[node.name]:
                    following.append(node)
        current = following
    return found


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:0"
