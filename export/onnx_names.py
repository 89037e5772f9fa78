"""Readable names in ONNX files, in the same grammar for both frameworks.

A node is named after the module that it computes, as in checkpoints, and its operator:
`backbone.layer1.0.conv2.fc1/Conv`. Its output has the same name, and its weights are `backbone.layer1.0.conv2.fc1.weight`.
"""

from collections.abc import Mapping

import onnx

_ROLES = {
    "Conv": ("weight", "bias"),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("weight", "bias"),
    "MatMul": ("weight",),
    "Gemm": ("weight", "bias"),
}
"""The names of an operator's constant inputs, in order, without the first input."""


def rename(model: onnx.ModelProto, parameters: Mapping[str, str]) -> None:
    """Renames every node and tensor in place, but not the graph's inputs and outputs.

    Args:
        model: an exporter's file; its Constant nodes become initialisers, which a viewer shows where they are used.
        parameters: canonical names of the file's weights, if the file uses others and its nodes are not named after modules.
    """
    graph = model.graph
    _constants_as_initialisers(graph)
    constants = {tensor.name for tensor in graph.initializer}
    fixed = {value.name for value in [*graph.input, *graph.output]}
    tensors: dict[str, str] = {name: name for name in fixed}
    modules: dict[str, str] = {}
    taken: set[str] = set(fixed)
    for node in graph.node:
        module = _module(node, parameters, modules)
        node.name = _free(f"{module}/{node.op_type}" if module else node.op_type, taken)
        for position, name in enumerate(node.input):
            if name in constants and name not in tensors:
                tensors[name] = _free(_constant_name(node, position, module, parameters.get(name, name)), taken)
        for position, name in enumerate(node.output):
            modules[name] = module
            own = node.name if len(node.output) == 1 else f"{node.name}/output{position}"
            tensors.setdefault(name, own)
    for node in graph.node:
        node.input[:] = [tensors.get(name, name) for name in node.input]
        node.output[:] = [tensors.get(name, name) for name in node.output]
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in tensors]:
        graph.initializer.remove(tensor)  # Paddle's exporter leaves constants that nothing reads
    for tensor in graph.initializer:
        tensor.name = tensors[tensor.name]
    del graph.value_info[:]  # shapes by the tensors' old names; they can be inferred again


def _constants_as_initialisers(graph: onnx.GraphProto) -> None:
    nodes = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is None:
            nodes.append(node)
        else:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
    del graph.node[:]
    graph.node.extend(nodes)


def _module(node: onnx.NodeProto, parameters: Mapping[str, str], modules: Mapping[str, str]) -> str:
    """The module of a node: its own scope, that of its weights, or that of its inputs."""
    if node.name.startswith("/"):  # torch: /backbone/layer1/layer1.0/conv1/Conv
        path: list[str] = []
        for part in node.name.split("/")[1:-1]:
            # A child of a Sequential carries the parent's name too.
            path = [*path[:-1], part] if path and part.startswith(f"{path[-1]}.") else [*path, part]
        return ".".join(path)
    weights = [parameters[name].rpartition(".")[0] for name in node.input if name in parameters]
    return next(iter(weights), next((modules[name] for name in node.input if name in modules), ""))


def _constant_name(node: onnx.NodeProto, position: int, module: str, name: str) -> str:
    if "." in name and "::" not in name and name.rpartition(".")[0] == module:
        return name  # the checkpoint's own
    roles = _ROLES.get(node.op_type, ())
    return f"{module}.{roles[position - 1]}" if 0 < position <= len(roles) else f"{node.name}/constant{position}"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number appended if it is already used."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free
