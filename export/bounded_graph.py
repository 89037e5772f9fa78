"""Limits of a SavedModel's graph: what a small file may stand for, before anything is inferred from it."""

import math
from pathlib import Path
from typing import Any

from zoo.errors import ExportError
from zoo.limits import CALL_DEPTH, GRAPH_NODES, REPEATED_BYTES, require_at_most

_AXES = 32
"""Axes of a constant; numpy has at most 64, and TensorFlow 254."""
_DATA = ("tensor_content", "half_val", "float_val", "double_val", "int_val", "string_val", "int64_val", "bool_val")
_WIDEST = 16
"""Bytes of a value of the widest type."""


def require_bounded(meta_graph: Any, path: Path) -> None:
    """Raises `ExportError` if a MetaGraphDef stands for much more than it holds.

    That is: functions that call themselves, or each other many times over (`zoo.limits.GRAPH_NODES` nodes written out);
    constants of one value repeated (`zoo.limits.REPEATED_BYTES`) or of negative axes.

    Args:
        meta_graph: the MetaGraphDef.
        path: its file, for the message.
    """
    graph_def = meta_graph.graph_def
    functions = {function.signature.name: function.node_def for function in graph_def.library.function}
    written_out = _Sizes(functions, path)
    written_out.of(graph_def.node, ())
    for name in functions:
        written_out.size(name, ())
    repeated = 0
    for nodes in (graph_def.node, *functions.values()):
        for node in nodes:
            for key, value in node.attr.items():
                if value.WhichOneof("value") == "tensor":
                    repeated += _repeated_bytes(value.tensor, f"{path}: the constant {node.name!r} ({key})")
    require_at_most(REPEATED_BYTES, repeated, "bytes of constants that are one value repeated", path, ExportError)


class _Sizes:
    """Numbers of nodes of functions, with the functions that they call written out, and how deep these calls go."""

    def __init__(self, functions: dict[str, Any], path: Path) -> None:
        self.functions, self.path = functions, path
        self.known: dict[str, tuple[int, int]] = {}

    def of(self, nodes: Any, callers: tuple[str, ...]) -> tuple[int, int]:
        """Nodes and depth of a list of nodes."""
        called = [self.size(name, callers) for node in nodes for name in self._called(node)]
        size = len(nodes) + sum(size for size, _ in called)
        depth = 1 + max((depth for _, depth in called), default=0)
        require_at_most(GRAPH_NODES, size, "nodes with all calls written out", self.path, ExportError)
        require_at_most(CALL_DEPTH, depth, "functions that call each other", self.path, ExportError)
        return size, depth

    def size(self, name: str, callers: tuple[str, ...]) -> tuple[int, int]:
        """Of a function."""
        if name in callers:
            raise ExportError(f"{self.path}: the function {name[:80]!r} calls itself, so it has no end")
        # Before it is followed further: the calls here are as deep as the functions'.
        require_at_most(CALL_DEPTH, len(callers), "functions that call each other", self.path, ExportError)
        if name not in self.known:
            self.known[name] = self.of(self.functions[name], (*callers, name))
        return self.known[name]

    def _called(self, node: Any) -> list[str]:
        names = [node.op]
        for value in node.attr.values():
            kind = value.WhichOneof("value")
            if kind == "func":
                names.append(value.func.name)
            elif kind == "list":
                names += [function.name for function in value.list.func]
        return [name for name in names if name in self.functions]


def _repeated_bytes(tensor: Any, what: str) -> int:
    """Bytes of a constant beyond those that the file holds."""
    shape = tensor.tensor_shape
    lengths = [dim.size for dim in shape.dim]
    require_at_most(_AXES, len(lengths), "axes", what, ExportError)
    if shape.unknown_rank or any(length < 0 for length in lengths):
        raise ExportError(f"{what} has the shape {lengths[:8]}, which no constant has")
    held = sum(len(getattr(tensor, name)) for name in _DATA)
    return max(0, math.prod(lengths) * _WIDEST - held * _WIDEST)
