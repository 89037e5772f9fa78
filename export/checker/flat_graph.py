"""The nodes that a signature runs, with called functions inlined, and the shapes of all tensors.

Whether a kernel supports a node may depend on shapes that only a caller knows. So calls are inlined, and the current
TensorFlow infers all shapes for one size of the inputs; nothing is executed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from export.checker.made_of_constants import require_small
from export.checker.nodes import attribute, called_functions, function_names
from export.quiet_tensorflow import quiet_stderr
from export.saved_model_file import SavedGraph

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LARGE = 1 << 10
"""Values of constants with more bytes are left out: no shape depends on a weight's values."""

Shape = list[int | None] | None
"""Axes of a tensor; an unknown axis is None, and None instead of a tuple means an unknown number of axes."""


@dataclass(frozen=True)
class Placed:
    """A node and the place where it is defined.

    Attributes:
        node: its NodeDef.
        function: the function that it is in; "" for the graph itself.
        inputs: names of its input tensors in the flat graph, "name:index".
    """

    node: Any
    function: str
    inputs: list[str]


@dataclass
class FlatGraph:
    """The nodes of one signature, or of one branch or loop body in it.

    Attributes:
        nodes: {flat name: node}; without calls.
        outputs: flat tensors that are returned.
        shapes: {flat tensor: shape}, for one size of the inputs.
        misfit: the error of shape inference at that size; "" if there is none.
        branches: its branches and loop bodies.
    """

    nodes: dict[str, Placed] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    misfit: str = ""
    branches: list["FlatGraph"] = field(default_factory=list)

    def needed(self) -> list[str]:
        """Flat names of the nodes that the outputs need; TensorFlow prunes all others before running."""
        found: dict[str, None] = {}
        waiting = [tensor.rpartition(":")[0] for tensor in self.outputs]
        while waiting:
            name = waiting.pop()
            if name in self.nodes and name not in found:
                found[name] = None
                waiting += [tensor.rpartition(":")[0] for tensor in self.nodes[name].inputs]
        return list(found)

    def whole(self) -> Iterable["FlatGraph"]:
        """This graph and all of its branches."""
        yield self
        for branch in self.branches:
            yield from branch.whole()


def flatten(graph: SavedGraph, signature: str, side: int) -> FlatGraph | None:
    """The flat graph of a signature; None if it calls something missing or unknown to the current TensorFlow.

    Args:
        graph: the SavedModel.
        signature: its name.
        side: assumed size of inputs' unknown axes; of four or more axes the first is 1.
    """
    top = signature_nodes(graph, signature)
    bodies = [top, *(graph.functions[name].node_def for name in called_functions(graph, top))]
    for node in (node for body in bodies for node in body):
        names = function_names(node, graph)
        if not all(name in graph.functions for name in names) or not (node.op in names or _definition(node.op)):
            return None
    return _Flattener(graph, side).flat("", top, _returned(graph, signature))


def require_small_functions(graph: SavedGraph) -> None:
    """Raises `ExportError` if any function, called or not, makes large tensors of constants: loading computes them.

    Raises:
        ValueError, KeyError, AttributeError, tf.errors.OpError: the current TensorFlow cannot load a function.
    """
    flattener = _Flattener(graph, 1)
    for name, function in graph.functions.items():
        flattener.require_small(name, function.node_def)
    flattener.require_small("", graph.meta_graph.graph_def.node)


def signature_nodes(graph: SavedGraph, signature: str) -> list[Any]:
    """The nodes of the graph itself, not of functions, that a signature's outputs need."""
    nodes = {node.name: node for node in graph.meta_graph.graph_def.node}
    found: dict[str, Any] = {}
    waiting = [tensor.split(":")[0] for tensor in _returned(graph, signature)]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found[name] = nodes[name]
            waiting += [tensor.lstrip("^").split(":")[0] for tensor in nodes[name].input]
    return list(found.values())


def _returned(graph: SavedGraph, signature: str) -> list[str]:
    return [output.name for output in graph.meta_graph.signature_def[signature].outputs.values()]


class _Flattener:
    def __init__(self, graph: SavedGraph, side: int) -> None:
        self.graph, self.side = graph, side

    def flat(self, function: str, nodes: Any, returned: list[str], arguments: list[Shape] | None = None) -> FlatGraph:
        """The flat graph of a body; `arguments` are the shapes of a function's inputs."""
        flat = FlatGraph()
        shapes = {}
        if function:
            args = self.graph.functions[function].signature.input_arg
            names = {arg.name: f"{arg.name}:0" for arg in args}
            shapes = dict(zip(names.values(), arguments, strict=False))
            types = {f"{arg.name}:0": arg.type for arg in args}
        else:
            names, types = {}, {}
        tensors = self._place(flat, "", function, nodes, names)
        flat.outputs.extend(tensors(name) for name in returned)
        self._infer(flat, shapes, types)
        for name in flat.needed():
            flat.branches.extend(self._branches(flat, name))
        return flat

    def require_small(self, function: str, nodes: Any) -> None:
        """`made_of_constants.require_small` of a whole body, whatever its outputs need."""
        flat = FlatGraph()
        args = self.graph.functions[function].signature.input_arg if function else []
        self._place(flat, "", function, nodes, {arg.name: f"{arg.name}:0" for arg in args})
        flat.outputs.extend(f"{name}:0" for name in flat.nodes)
        require_small(self._importable(flat, {}, {f"{arg.name}:0": arg.type for arg in args}, sized=False)[0])

    def _place(self, flat: FlatGraph, prefix: str, function: str, nodes: Any, arguments: dict[str, str]) -> Any:
        """Adds a body's nodes to `flat`; returns a function from the body's tensor names to flat ones."""
        starts = {node.name: self._starts(node) for node in nodes}
        calls = {node.name for node in nodes if self._callee(node)}

        def tensor(name: str) -> str:
            if name in arguments:
                return arguments[name]
            owner, *rest = name.split(":")
            # In a graph "node:index"; in a function "node:output:index among those of the output's name".
            index = int(rest[-1]) if rest else 0
            if len(rest) == 2:
                index += starts.get(owner, {}).get(rest[0], 0)
            return f"{prefix}{owner}/returned_{index}:0" if owner in calls else f"{prefix}{owner}:{index}"

        for node in nodes:
            inputs = [tensor(name) for name in node.input if not name.startswith("^")]
            if callee := self._callee(node):
                called = self.graph.functions[callee]
                names = dict(zip((a.name for a in called.signature.input_arg), inputs, strict=False))
                inner = self._place(flat, f"{prefix}{node.name}/", callee, called.node_def, names)
                for index, arg in enumerate(called.signature.output_arg):
                    flat.nodes[f"{prefix}{node.name}/returned_{index}"] = Placed(
                        _identity(arg.type), function, [inner(called.ret[arg.name])]
                    )
            else:
                flat.nodes[f"{prefix}{node.name}"] = Placed(node, function, inputs)
        return tensor

    def _callee(self, node: Any) -> str:
        if node.op in self.graph.functions:
            return node.op
        return attribute(node, "f").func.name if node.op in CALLS else ""

    def _starts(self, node: Any) -> dict[str, int]:
        """{name of an output: index of its first tensor among all of the node's}."""
        if node.op in self.graph.functions:
            outputs = self.graph.functions[node.op].signature.output_arg
        else:
            outputs = _definition(node.op).output_arg
        starts, start = {}, 0
        for arg in outputs:
            starts[arg.name] = start
            if arg.number_attr:
                start += attribute(node, arg.number_attr).i
            else:
                start += len(attribute(node, arg.type_list_attr).list.type) if arg.type_list_attr else 1
        return starts

    def _infer(self, flat: FlatGraph, shapes: dict[str, Shape], types: dict[str, int]) -> None:
        with quiet_stderr():
            import tensorflow as tf

        for sized in (True, False):
            # If inference fails at this size, the shapes that hold for any size are still useful.
            graph_def, stood_for = self._importable(flat, shapes, types, sized)
            graph = tf.Graph()
            try:
                require_small(graph_def)
                with graph.as_default(), quiet_stderr():
                    tf.graph_util.import_graph_def(graph_def, name="")
            except (ValueError, tf.errors.OpError) as error:
                if sized:
                    flat.misfit = " ".join(str(error).split())
                continue
            for operation in graph.get_operations():
                for output in operation.outputs:
                    flat.shapes[output.name] = None if output.shape.rank is None else output.shape.as_list()
            flat.shapes.update({tensor: flat.shapes[name] for tensor, name in stood_for.items()})
            return

    def _importable(
        self, flat: FlatGraph, shapes: dict, types: dict[str, int], sized: bool
    ) -> tuple[Any, dict[str, str]]:
        """A GraphDef of the needed nodes, and {flat tensor: name of the placeholder that replaces it}."""
        from tensorflow.core.framework import graph_pb2

        graph_def = graph_pb2.GraphDef()
        graph_def.versions.CopyFrom(self.graph.meta_graph.graph_def.versions)
        graph_def.versions.min_consumer = 0
        del graph_def.versions.bad_consumers[:]
        for tensor, number in types.items():
            _placeholder(graph_def.node.add(), tensor.removesuffix(":0"), number, shapes.get(tensor))
        stood_for = {}
        needed = {name: flat.nodes[name] for name in flat.needed()}
        for name, placed in needed.items():
            for index, (number, shape) in enumerate(self._stand_ins(placed.node, sized)):
                stood_for[f"{name}:{index}"] = f"{name}:0" if index == 0 else f"{name}/output_{index}:0"
                _placeholder(graph_def.node.add(), stood_for[f"{name}:{index}"].removesuffix(":0"), number, shape)
        for name, placed in needed.items():
            if f"{name}:0" not in stood_for:
                node = graph_def.node.add(name=name, op=placed.node.op)
                node.input.extend(stood_for.get(tensor, tensor) for tensor in placed.inputs)
                for key, value in placed.node.attr.items():
                    if not key.startswith("_"):
                        node.attr[key].CopyFrom(value)
        return graph_def, stood_for

    def _stand_ins(self, node: Any, sized: bool) -> list[tuple[int, Shape]]:
        """(type, shape) of each output of a node that is replaced by placeholders; empty if the node itself is imported."""
        if node.op == "Const" and attribute(node, "value").ByteSize() > _LARGE:
            return [(node.attr["dtype"].type, [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim])]
        if node.op == "Placeholder":
            shape = _axes(attribute(node, "shape").shape)
            if sized and shape is not None:
                shape = [self._size(axis, size, len(shape)) for axis, size in enumerate(shape)]
            return [(node.attr["dtype"].type, shape)]
        if not _called(self.graph, node):
            return []
        # Calls functions, but is not a plain call: a branch, a loop, a data set.
        types = attribute(node, "Tout").list.type or attribute(node, "T").list.type
        known = attribute(node, "_output_shapes").list.shape or attribute(node, "output_shapes").list.shape
        return [(t, _axes(known[i]) if i < len(known) else None) for i, t in enumerate(types)]

    def _size(self, axis: int, size: int | None, rank: int) -> int:
        if size is not None:
            return size
        return 1 if axis == 0 and rank != 3 else self.side

    def _branches(self, flat: FlatGraph, name: str) -> list[FlatGraph]:
        node, inputs = flat.nodes[name].node, flat.nodes[name].inputs
        found = []
        for callee in _called(self.graph, node):
            function = self.graph.functions[callee]
            first = len(inputs) - len(function.signature.input_arg)  # a branch's function does not take the condition
            shapes = [flat.shapes.get(tensor) for tensor in inputs[first:]]
            returned = [function.ret[arg.name] for arg in function.signature.output_arg]
            found.append(self.flat(callee, function.node_def, returned, shapes))
        return found


def _called(graph: SavedGraph, node: Any) -> list[str]:
    return list(dict.fromkeys(name for name in function_names(node, graph) if name in graph.functions))


def _definition(op: str) -> Any:
    """The current TensorFlow's OpDef, or None. An operator's outputs have never changed between versions."""
    with quiet_stderr():
        from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def _identity(number: int) -> Any:
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(op="Identity")
    node.attr["T"].type = number
    return node


def _placeholder(node: Any, name: str, number: int, shape: Shape) -> None:
    node.name, node.op = name, "Placeholder"
    node.attr["dtype"].type = number
    if shape is None:
        node.attr["shape"].shape.unknown_rank = True
    else:
        node.attr["shape"].shape.SetInParent()
        for size in shape:
            node.attr["shape"].shape.dim.add(size=-1 if size is None else size)


def _axes(shape: Any) -> Shape:
    return None if shape.unknown_rank else [None if dim.size < 0 else dim.size for dim in shape.dim]
