"""Whether loading or calling a SavedModel could do more than compute: run Python, touch other files, use the network.

An operator is allowed if TensorFlow registers it as stateless, or if it is one of the few stateful ones that networks need. All
others are refused, wherever they stand: loading runs some functions, and what TensorFlow runs has changed between its versions.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from export.checker.finding import Finding
from export.checker.nodes import called_functions
from export.checker.registry import stateless
from export.saved_model_file import SavedGraph, files_below
from zoo.errors import ExportError
from zoo.inputs import real_path

_VARIABLES = {
    *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    *("VarIsInitializedOp", "VariableShape", "DestroyResourceOp", "DisableCopyOnRead", "ResourceGather"),
    *(
        "ResourceGatherNd",
        "ResourceScatterNdUpdate",
        "ResourceScatterUpdate",
        "Variable",
        "VariableV2",
        "TemporaryVariable",
    ),
}
_CONTROL = {
    *("StatefulPartitionedCall", "If", "While", "Case", "Assert", "CheckNumerics", "CheckNumericsV2", "DeviceIndex"),
    *("Empty", "GuaranteeConst"),
}
_LISTS = {
    *("StackV2", "StackPushV2", "StackPopV2", "StackCloseV2", "TensorListResize"),
    *(
        f"TensorArray{what}V3"
        for what in ("", "Close", "Concat", "Gather", "Grad", "Read", "Scatter", "Size", "Split", "Write")
    ),
}
_RANDOM = {
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal"),
    *(
        "RandomShuffle",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomCrop",
        "Multinomial",
        "NonDeterministicInts",
    ),
    *(
        "StatefulUniform",
        "StatefulUniformInt",
        "StatefulUniformFullInt",
        "StatefulStandardNormal",
        "StatefulStandardNormalV2",
    ),
    *("StatefulTruncatedNormal", "StatefulRandomBinomial", "RngSkip", "RngReadAndSkip", "SampleDistortedBoundingBox"),
    *("SampleDistortedBoundingBoxV2", "StatelessRandomGetAlg", "StatelessRandomGetKeyCounter"),
    "StatelessRandomGetKeyCounterAlg",
}
_TABLES = {
    *(
        "HashTable",
        "HashTableV2",
        "MutableHashTable",
        "MutableHashTableV2",
        "MutableDenseHashTableV2",
        "InitializeTableV2",
    ),
    *("AnonymousHashTable", "AnonymousMutableHashTable"),
    *(f"LookupTable{what}V2" for what in ("Export", "Find", "Import", "Insert", "Remove", "Size")),
}
"""Tables in memory; `InitializeTableFromTextFileV2` reads a file."""
STATEFUL = _VARIABLES | _CONTROL | _LISTS | _RANDOM | _TABLES
"""Operators with a state that only the model itself sees."""
_REACHING = {
    *("ReadFile", "MatchingFiles", "ImmutableConst", "GenerateVocabRemapping", "InitializeTableFromTextFile"),
    *("DecodeProtoV2", "EncodeProto", "Copy", "CopyHost", "DebugIdentity", "DebugNanCount", "DebugNumericSummary"),
    *("PyFuncStateless", "RemoteFusedGraphExecute", "TfLiteSubgraphExecute", "XlaCustomCall", "XlaCustomCallV2"),
    *("XlaLaunchV2", "TPUPartitionedCall", "MlirPassthroughOp"),
}
_DATA_SETS = re.compile("Dataset")
"""Operators that TensorFlow registers as stateless, although they read or write files, send, or run what no graph shows."""
_SAVES, _RESTORES = {"SaveV2", "MergeV2Checkpoints", "Save", "SaveSlices"}, {"RestoreV2", "Restore", "RestoreSlice"}
_INITIALISERS = ("saved_model_main_op", "legacy_init_op")
"""Collections with the nodes that loading runs."""
_REMEDY = "Remove it: a network only computes"


def check_side_effects(graph: SavedGraph) -> list[Finding]:
    """Operators that may run Python, touch files or use the network, and assets outside of the SavedModel."""
    return list(dict.fromkeys([*_operators(graph), *_assets(graph), *_links(graph)]))


def require_no_side_effects(graph: SavedGraph, path: Path) -> None:
    """Raises `ExportError` if loading or calling a SavedModel could do more than compute."""
    if found := [finding for finding in check_side_effects(graph) if finding.rejects]:
        raise ExportError(f"{path} was not loaded: {found[0]}")


def _operators(graph: SavedGraph) -> Iterator[Finding]:
    meta = graph.meta_graph
    bodies = {"": meta.graph_def.node} | {name: function.node_def for name, function in graph.functions.items()}
    saver = _Saver(graph)
    for function, nodes in bodies.items():
        for node in nodes:
            if node.op in graph.functions:
                continue
            problem = saver.problem(node, function) if node.op in _SAVES | _RESTORES else _problem(node.op)
            if problem:
                yield Finding(problem, _REMEDY, node.name, node.op, function)


def _problem(operator: str) -> str:
    """What is wrong with an operator; "" if it only computes."""
    if operator in STATEFUL:
        return ""
    known = stateless(operator)
    if known is None:
        return "is no operator of TensorFlow's, so that what it does is not known"
    if not known or operator in _REACHING or _DATA_SETS.search(operator):
        return "may run Python, touch files or use the network"
    return ""


class _Saver:
    """What of a graph saves and restores its variables.

    Restoring is run by a loader, with the SavedModel's own files, and saving by nobody. Both are wrong in what a signature, an
    object or an initialiser runs.
    """

    def __init__(self, graph: SavedGraph) -> None:
        meta = graph.meta_graph
        self.functions = graph.functions
        self.file = _owner(meta.saver_def.filename_tensor_name)
        outputs = [output.name for signature in meta.signature_def.values() for output in signature.outputs.values()]
        initial = [
            name
            for key in _INITIALISERS
            if key in meta.collection_def
            for name in meta.collection_def[key].node_list.value
        ]
        loaded = [graph.functions[name] for name in meta.object_graph_def.concrete_functions if name in graph.functions]
        self.run = _reached(graph, [*outputs, *initial])
        self.run |= _functions(graph, [node for function in loaded for node in function.node_def])
        self.run |= {("", function.signature.name) for function in loaded}
        self.restoring = _reached(graph, [meta.saver_def.restore_op_name])

    def problem(self, node: Any, function: str) -> str:
        """What is wrong with a node that saves or restores; "" if it is the saver's own."""
        place = ("", function) if function else (node.name, "")
        if place in self.run or (node.op in _SAVES and place in self.restoring):
            return "would read or write files when the model is loaded or called"
        if place in self.restoring and not self._reads_own_file(node, function):
            return "would read other files than the SavedModel's when the model is loaded"
        return ""

    def _reads_own_file(self, node: Any, function: str) -> bool:
        first = _owner(node.input[0]) if node.input else ""
        return (
            first in {arg.name for arg in self.functions[function].signature.input_arg}
            if function
            else first == self.file
        )


def _reached(graph: SavedGraph, names: Iterable[str]) -> set[tuple[str, str]]:
    """What runs if nodes of the graph itself run: (node, "") and ("", function)."""
    nodes = {node.name: node for node in graph.meta_graph.graph_def.node}
    found: dict[str, Any] = {}
    waiting = [_owner(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found:
            found[name] = nodes[name]
            waiting += map(_owner, nodes[name].input)
    return {(name, "") for name in found} | _functions(graph, found.values())


def _functions(graph: SavedGraph, nodes: Iterable[Any]) -> set[tuple[str, str]]:
    return {("", name) for name in called_functions(graph, nodes)}


def _owner(tensor: str) -> str:
    """The node of a tensor's name, "node:0" or "^node"."""
    return tensor.lstrip("^").split(":")[0]


def _assets(graph: SavedGraph) -> Iterator[Finding]:
    """Assets whose names lead out of their folder: loading makes paths of them."""
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = graph.meta_graph
    kept = (
        meta.collection_def["saved_model_assets"].any_list.value if "saved_model_assets" in meta.collection_def else []
    )
    parsed = [meta_graph_pb2.AssetFileDef.FromString(item.value) for item in kept]
    names = [asset.filename for asset in (*meta.asset_file_def, *parsed)]
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or re.search(r"[\\:\0]", name):
            yield Finding(f"the asset {name[:80]!r} is outside of the SavedModel", "Save the model again", name[:80])


def _links(graph: SavedGraph) -> Iterator[Finding]:
    """Notes of files that are not in the folder itself, which packing would copy."""
    for file in files_below(graph.folder):
        if not real_path(file).is_relative_to(real_path(graph.folder)):
            name = file.relative_to(graph.folder).as_posix()
            problem = f"is a link, or in one, to {real_path(file)}, outside of the SavedModel"
            yield Finding(problem, "See that it is meant", name, rejects=False)
