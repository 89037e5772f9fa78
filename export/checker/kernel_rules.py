"""Whether a TensorFlow has CPU kernels for all nodes of a signature, and how much arithmetic they need."""

import math
import re
from collections.abc import Iterator
from typing import Any

from export.checker.finding import Finding
from export.checker.flat_graph import FlatGraph, Placed, Shape, signature_nodes
from export.checker.nodes import attribute, attribute_types, called_functions, type_name
from export.checker.registry import Registry
from export.saved_model_file import SavedGraph

_CHANNELS_FIRST = ("NCHW", "NCDHW")
_DENSE = "Split it with `python export/to_savedmodel.py`, whose normal form has one dense convolution a group"
_FORMS = {
    "groups": ("takes {0} channels and its filter {1}: a grouped convolution, which has no kernel on CPUs", _DENSE),
    "NCHW": ("has its channels first, for which there is no kernel on CPUs", "Write the layer with channels last"),
    "NCDHW": ("has its channels first, for which there is no kernel on CPUs", "Write the layer with channels last"),
    "dilations": ("is dilated, for which there is no kernel on CPUs", "Put zeros into the filter instead"),
    "DT_BFLOAT16": ("computes in bfloat16, at which the kernel for CPUs fails", "Compute in float32"),
    "strides": ("has strides {0} and {1}; the CPU kernel only supports equal strides", "Use equal strides"),
}
"""Form that kernels refuse (`registry_worker.py` tests each TensorFlow for them) → (problem, remedy)."""
_ONEDNN = (
    "only oneDNN runs it, which TensorFlow enables by default on some processors; TF_ENABLE_ONEDNN_OPTS=1 does on all"
)


def check_kernels(graph: SavedGraph, registry: Registry, signature: str) -> list[Finding]:
    """Nodes without a kernel. TensorFlow requires one for each node of each called function, needed or not."""
    top = signature_nodes(graph, signature)
    bodies = {name: graph.functions[name].node_def for name in called_functions(graph, top)}
    if not graph.has_objects:
        bodies[""] = top
    return [
        Finding(
            f"no kernel without a GPU for {_types(node, registry)} in TensorFlow {registry.tensorflow}",
            "Compute in float32, with operators that CPUs have",
            *(node.name, node.op, function),
        )
        for function, nodes in bodies.items()
        for node in nodes
        if node.op in registry.ops and not _has_kernel(node, registry)
    ]


def check_forms(flat: FlatGraph, registry: Registry, *, guessed: bool = False) -> list[Finding]:
    """Nodes whose kernel refuses them at run time because of their form or shapes.

    If the inputs' sizes were only `guessed`, mismatching shapes only give warnings.
    """
    # A branch may never run with these sizes, and in a loop they may change: a mismatch there is only a warning.
    found = [_misfit(part, rejects=part is flat and not guessed) for part in flat.whole() if part.misfit]
    for part in flat.whole():
        for name in part.needed():
            placed = part.nodes[name]
            where = (placed.node.name, placed.node.op, placed.function)
            found += [
                Finding(problem, remedy, *where) for problem, remedy in _refused(placed, part.shapes, registry.refused)
            ]
            found += [
                Finding(f"{problem}; {_ONEDNN}", remedy, *where, rejects=False)
                for problem, remedy in _refused(placed, part.shapes, registry.only_with_onednn)
            ]
    return found


def operations(flat: FlatGraph) -> int:
    """Additions and multiplications of all convolutions and matrix products; each branch and loop body counts once."""
    return sum(_operations(name, part) for part in flat.whole() for name in part.needed())


def _misfit(flat: FlatGraph, *, rejects: bool) -> Finding:
    name = re.search(r"{{node (\S+)}}", flat.misfit)
    placed = flat.nodes.get(name[1]) if name else None
    where = (placed.node.name, placed.node.op, placed.function) if placed else ()
    problem = f"shapes do not fit together at the size that was tried: {flat.misfit[:300]}"
    return Finding(problem, "Make it take images of any size, or resize them in the graph", *where, rejects=rejects)


def _has_kernel(node: Any, registry: Registry) -> bool:
    def fits(constraints: dict[str, list[str]]) -> bool:
        return all(set(attribute_types(node, name, registry)) <= set(types) for name, types in constraints.items())

    return any(fits(constraints) for constraints in registry.kernels.get(node.op, []))


def _types(node: Any, registry: Registry) -> str:
    names = [name for name, a in registry.ops[node.op]["attrs"].items() if a["type"] in ("type", "list(type)")]
    types = [f"{name}={','.join(attribute_types(node, name, registry))}" for name in names]
    return " ".join([node.op, *types])


def _refused(placed: Placed, shapes: dict[str, Shape], refused: list[str]) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of each of the `refused` forms that a node has."""
    node = placed.node
    forms = {form.partition(" ")[2] for form in refused if form.partition(" ")[0] == node.op}
    if type_name(attribute(node, "T").type) in forms:
        yield _FORMS[type_name(attribute(node, "T").type)]
    layout = attribute(node, "data_format").s.decode()
    if layout in forms and layout in _CHANNELS_FIRST:
        yield _FORMS[layout]
        return
    if "groups" in forms:
        images, filters = (shapes.get(tensor) for tensor in placed.inputs[:2])
        channels = [shape[axis] if shape else None for shape, axis in ((images, -1), (filters, -2))]
        if None not in channels and channels[0] != channels[1]:
            yield _FORMS["groups"][0].format(*channels), _FORMS["groups"][1]
    if "dilations" in forms and any(step > 1 for step in attribute(node, "dilations").list.i):
        yield _FORMS["dilations"]
    strides = list(attribute(node, "strides").list.i)
    if "strides" in forms and len(strides) == 4 and strides[1] != strides[2]:
        yield _FORMS["strides"][0].format(*strides[1:3]), _FORMS["strides"][1]


def _operations(name: str, flat: FlatGraph) -> int:
    """Twice the number of multiplications of one node; 0 if a shape is unknown or the number is negligible."""
    placed = flat.nodes[name]
    op, inputs = placed.node.op, [flat.shapes.get(tensor) for tensor in placed.inputs]
    out = flat.shapes.get(f"{name}:0")
    if op in ("Conv2D", "Conv3D"):
        shapes = (out, inputs[1][:-1] if inputs[1] else None)
    elif op == "DepthwiseConv2dNative":
        shapes = (out, inputs[1][:2] if inputs[1] else None)
    elif op in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        shapes = (inputs[2], inputs[1][:-1] if inputs[1] else None)
    elif op == "MatMul":
        shapes = (out, [inputs[0][0 if attribute(placed.node, "transpose_a").b else 1]] if inputs[0] else None)
    elif op in ("BatchMatMul", "BatchMatMulV2"):
        shapes = (out, [inputs[0][-2 if attribute(placed.node, "adj_x").b else -1]] if inputs[0] else None)
    else:
        return 0
    known = all(shape is not None and None not in shape for shape in shapes)
    return 2 * math.prod(size for shape in shapes for size in shape) if known else 0
