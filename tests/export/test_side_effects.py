"""What a SavedModel may do besides computing: nothing, wherever the operator stands and whoever would run it."""

import re
import shutil

import pytest

from export.checker import registry, side_effects
from export.checker.side_effects import STATEFUL, check_side_effects, require_no_side_effects
from export.saved_model_file import open_saved_model, read_saved_model
from zoo.errors import ExportError

_REACHES = re.compile(
    r"(^|_)(file|filename|path|url|address|host|protocol|token|dir|source|region_name|memory_container|handler|program|module)s?(_|$)"
)
"""Inputs and attributes of operators that lead somewhere else."""
_HARMLESS = {
    *("CTCBeamSearchDecoder", "XlaSelectAndScatter", "TPUReplicateMetadata", "TensorArrayGradV3", "CopyToMesh"),
    *(
        "_FusedConv2D",
        "_FusedQuantizedConv2D",
        "_FusedQuantizedDepthwiseConv2D",
        "_MklNativeFusedConv2D",
        "_QuantizedMatMul",
    ),
}
"""Operators with such a name for something else: "top_paths", "host_args" …"""


def operators() -> dict[str, list[str]]:
    """{operator: names of its inputs and attributes} of every TensorFlow."""
    found: dict[str, list[str]] = {}
    for version in registry.versions():
        for name, op in registry.load_registry(version).ops.items():
            found.setdefault(name, []).extend([*(item[0] for item in op["in"]), *op["attrs"]])
    return found


def test_no_operator_that_leads_elsewhere_is_allowed():
    allowed = {
        name: sorted({word for word in words if _REACHES.search(word)})
        for name, words in operators().items()
        if not side_effects._problem(name) and name not in _HARMLESS and "token_ids" not in str(words)
    }
    assert {name: words for name, words in allowed.items() if words} == {}


def test_what_is_allowed_exists():
    known = set(operators())
    assert known >= STATEFUL
    assert known >= side_effects._REACHING
    assert not any(registry.stateless(name) for name in STATEFUL)
    assert all(registry.stateless(name) for name in side_effects._REACHING)


@pytest.mark.parametrize(
    "op", ["MatMul", "Conv2D", "RandomUniform", "LookupTableFindV2", "While", "StatelessWhile", "Assert"]
)
def test_operators_that_networks_need(op):
    assert side_effects._problem(op) == ""


@pytest.mark.parametrize(
    "op",
    [
        *("PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "TFRecordDatasetV2"),
        *(
            "DatasetFromGraph",
            "InitializeTableFromTextFileV2",
            "DecodeProtoV2",
            "DebugIdentity",
            "CopyHost",
            "XlaCallModule",
        ),
        *(
            "RpcClient",
            "Send",
            "_Recv",
            "CollectiveReduceV2",
            "PrintV2",
            "Timestamp",
            "FileSystemSetConfiguration",
            "DumpTensor",
        ),
        *("WriteSummary", "RemoteFusedGraphExecute", "XlaCustomCallV2", "SleepOp", "FIFOQueueV2", "OneShotIterator"),
    ],
)
def test_all_others_are_refused(op):
    assert "may run Python, touch files or use the network" in side_effects._problem(op)


def test_an_operator_of_nobody_is_refused():
    assert "no operator of TensorFlow's" in side_effects._problem("MyCustomOp")


@pytest.fixture
def changed(tiny_saved_models, tmp_path):
    """Applies a change to the graph of a sound SavedModel, and returns what is found in it."""

    def change(edit):
        made = tmp_path / "changed"
        shutil.copytree(tiny_saved_models / "good", made)
        saved = read_saved_model(made)
        edit(saved.meta_graphs[0])
        (made / "saved_model.pb").write_bytes(saved.SerializeToString())
        with open_saved_model(made) as graph:
            return check_side_effects(graph)

    return change


def function(meta, part: str):
    return next(f for f in meta.graph_def.library.function if part in f.signature.name)


def node(meta, name: str):
    return next(n for n in meta.graph_def.node if n.name == name.split(":")[0])


def test_the_saver_of_a_sound_model_is_its_own(changed):
    assert changed(lambda meta: None) == []


def in_a_signature(meta):
    called = node(meta, meta.signature_def["serving_default"].outputs["global_descriptor"].name).attr["f"].func.name
    function(meta, called).node_def.add(name="canary", op="SaveV2")


def in_an_object(meta):
    """As `_initialize` of a resource, which loading calls."""
    save = function(meta, "traced_save").signature.name
    meta.object_graph_def.concrete_functions[save].SetInParent()


def called_by_an_object(meta):
    """Two calls further down."""
    save, inner = function(meta, "traced_save").signature.name, meta.graph_def.library.function.add()
    inner.signature.name = "inner"
    inner.node_def.add(name="call", op="StatefulPartitionedCall").attr["f"].func.name = save
    meta.object_graph_def.concrete_functions["inner"].SetInParent()


def in_the_initialiser(key: str):
    def change(meta):
        meta.graph_def.node.add(name="canary", op="SaveV2")
        meta.graph_def.node.add(name="start", op="NoOp").input.append("^canary")
        meta.collection_def[key].node_list.value[:] = ["start"]

    return change


def in_the_signature_of_the_initialiser(meta):
    meta.graph_def.node.add(name="canary", op="RestoreV2")
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "canary"


def saving_at_restoring(meta):
    meta.graph_def.node.add(name="canary", op="SaveV2")
    node(meta, meta.saver_def.restore_op_name).input.append("^canary")


def saving_in_the_restoring_function(meta):
    function(meta, "traced_restore").node_def.add(name="canary", op="MergeV2Checkpoints")


@pytest.mark.parametrize(
    "edit",
    [
        in_a_signature,
        in_an_object,
        called_by_an_object,
        in_the_initialiser("saved_model_main_op"),
        in_the_initialiser("legacy_init_op"),
        in_the_signature_of_the_initialiser,
        saving_at_restoring,
        saving_in_the_restoring_function,
    ],
)
def test_saving_that_would_run_is_refused(changed, edit):
    found = changed(edit)
    assert any(f.rejects and "would read or write files when the model is loaded" in f.problem for f in found), found


def test_restoring_from_another_file_is_refused(changed):
    def from_a_constant(meta):
        restore = function(meta, "traced_restore")
        [reads] = [n for n in restore.node_def if n.op == "RestoreV2"]
        reads.input[0] = "another:output:0"

    assert any("other files" in found.problem for found in changed(from_a_constant))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "gs://bucket/a", "..\\a"])
@pytest.mark.parametrize("where", ["asset_file_def", "collection"])
def test_assets_outside_are_refused(changed, name, where):
    def edit(meta):
        asset = meta.asset_file_def.add(filename=name)
        if where == "collection":
            meta.collection_def["saved_model_assets"].any_list.value.add().Pack(asset)
            del meta.asset_file_def[:]

    assert any(found.rejects and "outside of the SavedModel" in found.problem for found in changed(edit))


def test_an_asset_inside_is_no_fault(changed):
    assert changed(lambda meta: meta.asset_file_def.add(filename="vocabulary.txt")) == []


@pytest.mark.parametrize("what", ["variables", "variables/variables.index"])
def test_links_that_lead_out_are_noted(tiny_saved_models, tmp_path, what):
    """A cache keeps files elsewhere, so they are no fault; but packing copies whatever they lead to."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_saved_models / "good", folder)
    shutil.move(folder / what, tmp_path / "elsewhere")
    (folder / what).symlink_to(tmp_path / "elsewhere")
    with open_saved_model(folder) as graph:
        found = check_side_effects(graph)
        require_no_side_effects(graph, folder)
    assert found and not any(finding.rejects for finding in found)
    assert all("outside of the SavedModel" in finding.problem for finding in found)


def test_nothing_is_loaded_with_a_side_effect(tiny_saved_models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_saved_models / "good", folder)
    saved = read_saved_model(folder)
    saved.meta_graphs[0].graph_def.node.add(name="canary", op="WriteFile")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with open_saved_model(folder) as graph, pytest.raises(ExportError, match="was not loaded: .*WriteFile 'canary'"):
        require_no_side_effects(graph, folder)
