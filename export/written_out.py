"""How large functions are that call each other, if every call were replaced by what it calls."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from zoo.errors import ExportError
from zoo.limits import CALL_DEPTH, require_at_most


class WrittenOut:
    """Sizes of functions with the functions that they call written out, and how deep these calls go.

    Args:
        functions: {name: its nodes}.
        called: the functions, by name, that a node calls.
        where: the file, or the place in it, for messages.
        limit: the largest size.
        size: that of one node.
    """

    def __init__(
        self,
        functions: Mapping[Any, Iterable[Any]],
        called: Callable[[Any], Iterable[Hashable]],
        where: object,
        limit: int,
        size: Callable[[Any], int] = lambda node: 1,
    ) -> None:
        self.functions, self.called, self.where = functions, called, where
        self.limit, self.size = limit, size
        self.known: dict[Hashable, tuple[int, int]] = {}

    def require_bounded(self, nodes: Iterable[Any]) -> None:
        """Raises `ExportError` if a graph of these nodes or any function is too large or too deep, or a function calls itself."""
        self._of(nodes, ())
        for name in self.functions:
            self._function(name, ())

    def _of(self, nodes: Iterable[Any], callers: tuple[Hashable, ...]) -> tuple[int, int]:
        """Size and depth of a list of nodes."""
        nodes = list(nodes)
        called = [
            self._function(name, callers) for node in nodes for name in self.called(node) if name in self.functions
        ]
        total = sum(map(self.size, nodes)) + sum(size for size, _ in called)
        depth = 1 + max((depth for _, depth in called), default=0)
        require_at_most(self.limit, total, "nodes with all calls written out", self.where, ExportError)
        require_at_most(CALL_DEPTH, depth, "functions that call each other", self.where, ExportError)
        return total, depth

    def _function(self, name: Hashable, callers: tuple[Hashable, ...]) -> tuple[int, int]:
        if name in callers:
            raise ExportError(f"{self.where}: the function {repr(name)[:80]} calls itself, so it has no end")
        # Before it is followed further: the calls here are as deep as the functions'.
        require_at_most(CALL_DEPTH, len(callers), "functions that call each other", self.where, ExportError)
        if name not in self.known:
            self.known[name] = self._of(self.functions[name], (*callers, name))
        return self.known[name]
