"""Limits of a SavedModel's graph: what a small file may stand for, before anything is inferred from it."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.written_out import WrittenOut
from zoo.errors import ExportError
from zoo.limits import GRAPH_NODES, REPEATED_BYTES, require_at_most

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
    WrittenOut(functions, _called, path, GRAPH_NODES).require_bounded(graph_def.node)
    repeated = 0
    for nodes in (graph_def.node, *functions.values()):
        for node in nodes:
            for key, value in node.attr.items():
                if value.WhichOneof("value") == "tensor":
                    repeated += _repeated_bytes(value.tensor, f"{path}: the constant {node.name!r} ({key})")
    require_at_most(REPEATED_BYTES, repeated, "bytes of constants that are one value repeated", path, ExportError)


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "list":
            yield from (function.name for function in value.list.func)


def _repeated_bytes(tensor: Any, what: str) -> int:
    """Bytes of a constant beyond those that the file holds."""
    shape = tensor.tensor_shape
    lengths = [dim.size for dim in shape.dim]
    require_at_most(_AXES, len(lengths), "axes", what, ExportError)
    if shape.unknown_rank or any(length < 0 for length in lengths):
        raise ExportError(f"{what} has the shape {lengths[:8]}, which no constant has")
    held = sum(len(getattr(tensor, name)) for name in _DATA)
    return max(0, math.prod(lengths) * _WIDEST - held * _WIDEST)
