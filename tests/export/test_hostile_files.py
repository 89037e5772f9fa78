"""ONNX files, SavedModels and zips that are damaged, foreign or hostile, and packing a folder with links."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import tf22, zips
from export.check import check
from export.embedder import SavedModelDescriber
from export.onnx_file import read_onnx
from export.saved_model_file import files_below, read_saved_model
from submission import pack
from zoo.errors import ExportError, MissingToolError, SubmissionError

ROOT = Path(__file__).resolve().parents[2]


def model(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["a"]), *nodes],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def external() -> onnx.ModelProto:
    made = model(w=np.ones(3, np.float32))
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    made.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    return made


def claiming(*shape: int) -> onnx.ModelProto:
    made = model(w=np.ones(3, np.float32))
    made.graph.initializer[0].dims[:] = shape
    return made


WRONG_ONNX = {
    "bytes": (b"no protobuf", "other bytes"),
    "empty": (b"", "no nodes"),
    "cut": (model(w=np.ones(900, np.float32)).SerializeToString()[:-90], "other bytes|no nodes|damaged"),
    "external": (external().SerializeToString(), "another file"),
    "terabytes": (claiming(2**40).SerializeToString(), "more than"),
    "negative": (claiming(-3).SerializeToString(), "negative|damaged"),
    "axes": (claiming(*[1] * 1000).SerializeToString(), "1,000 axes"),
    "other size": (claiming(4).SerializeToString(), "damaged|values"),
    "domain": (model(helper.make_node("PyOp", ["a"], ["b"], domain="ai.onnx.contrib")).SerializeToString(), "contrib"),
    "spread by a constant": (
        model(
            helper.make_node("Identity", ["s"], ["t"]),
            helper.make_node("Expand", ["a", "t"], ["b"]),
            s=np.array([2**30, 3]),
        ).SerializeToString(),
        "more than",
    ),
    "spread by a float": (
        model(helper.make_node("Expand", ["a", "s"], ["b"]), s=np.array([np.inf], np.float32)).SerializeToString(),
        "cannot be inferred",
    ),
    "padded": (
        model(helper.make_node("Pad", ["a", "p"], ["b"]), p=np.array([0, 0, 0, 2**40])).SerializeToString(),
        "beyond",
    ),
    "spreading": (model(helper.make_node("ConstantOfShape", ["s"], ["b"])).SerializeToString(), "ConstantOfShape"),
}


@pytest.mark.parametrize("kind", WRONG_ONNX)
@pytest.mark.parametrize("command", ["export.normal_form", "export.writer"])
def test_wrong_onnx_files_are_errors_of_every_command(tmp_path, kind, command):
    content, message = WRONG_ONNX[kind]
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ExportError, match=rf"a\.onnx is not a usable ONNX file.*({message})"):
        read_onnx(tmp_path / "a.onnx")
    if kind in ("bytes", "external"):  # once is enough: the commands share the door
        words = [sys.executable, "-m", command, "--onnx", tmp_path / "a.onnx", "--out", tmp_path / "out"]
        done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "a.onnx is not a usable ONNX file" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def changed(folder: Path, tmp_path: Path, change) -> Path:
    """A copy of a SavedModel with a changed graph."""
    made = tmp_path / "changed"
    shutil.copytree(folder, made)
    saved = read_saved_model(folder)
    change(saved.meta_graphs[0])
    (made / "saved_model.pb").write_bytes(saved.SerializeToString())
    return made


def first_function(meta):
    return meta.graph_def.library.function[0]


def call_itself(meta):
    function = first_function(meta)
    function.node_def.add(name="again", op=function.signature.name)


def double(meta):
    library = meta.graph_def.library
    for level in range(30):
        made = library.function.add()
        made.signature.name = f"g{level}"
        for copy in range(2):
            made.node_def.add(name=f"n{copy}", op=f"g{level - 1}" if level else "NoOp")


def claim_terabytes(meta):
    tensor = first_function(meta).node_def.add(name="c", op="Const").attr["value"].tensor
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=2**40)


def claim_axes(meta):
    tensor = first_function(meta).node_def.add(name="c", op="Const").attr["value"].tensor
    for _ in range(300):
        tensor.tensor_shape.dim.add(size=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (call_itself, "calls itself"),
        (double, "nodes with all calls written out"),
        (claim_terabytes, "bytes of constants that are one value repeated"),
        (claim_axes, "300 axes"),
    ],
)
def test_a_graph_that_stands_for_much_more_is_refused(tiny_saved_models, tmp_path, change, message):
    with pytest.raises(ExportError, match=message):
        check(changed(tiny_saved_models / "good", tmp_path, change))


@pytest.mark.parametrize("op", ["EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "PrintV2", "ImmutableConst"])
def test_operators_that_do_more_than_compute_reject(tiny_saved_models, tmp_path, op):
    def add(meta):
        [called] = {
            value.func.name
            for node in meta.graph_def.node
            if node.name == meta.signature_def["serving_default"].outputs["global_descriptor"].name.split(":")[0]
            for value in node.attr.values()
            if value.func.name
        }
        function = next(f for f in meta.graph_def.library.function if f.signature.name == called)
        function.node_def.add(name="canary", op=op)

    report = check(changed(tiny_saved_models / "good", tmp_path, add))
    assert any("may run Python" in f.problem for f in report.findings if f.rejects and f.op == op)


def zipped(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("variables")
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../a", b"")], "leads elsewhere"),
        ([("/a", b"")], "leads elsewhere"),
        ([("a/../../b", b"")], "leads elsewhere"),
        ([("/".join("a" * 100), b"")], "leads elsewhere"),
        ([("a", b"1"), ("A", b"2")], "two entries"),
        ([(link(), b"/etc")], "is a link"),
    ],
)
def test_zips_that_lead_elsewhere_are_refused(tmp_path, entries, message):
    path = zipped(tmp_path / "a.zip", *entries)
    with pytest.raises(ExportError, match=rf"a\.zip.*{message}"):
        check(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_zip_that_would_grow_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "ZIP_GROWTH", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved_model.pb", bytes(1_000_000))
    with pytest.raises(ExportError, match="bytes unpacked"):
        check(tmp_path / "a.zip")


def test_methods_that_take_gigabytes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("saved_model.pb", b"a")
    with pytest.raises(ExportError, match="method 14, which is not known here"):
        check(tmp_path / "a.zip")


def test_a_directory_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "_DIRECTORY", 100)
    path = zipped(tmp_path / "a.zip", *((f"file{number}", b"") for number in range(9)))
    with pytest.raises(ExportError, match="bytes of its directory"):
        check(path)


def test_a_model_with_side_effects_is_not_loaded(tiny_saved_models, tmp_path):
    def add(meta):
        first_function(meta).node_def.add(name="canary", op="EagerPyFunc")

    with pytest.raises(ExportError, match="was not loaded: .*may run Python"):
        SavedModelDescriber(changed(tiny_saved_models / "good", tmp_path, add))


@pytest.mark.parametrize("content", ["[]", "null", '{"id": 3}', '{"licenses": 3}', '{"resources": [1]}', "{", "\xff"])
def test_damaged_metadata_of_the_upload_are_an_error(tiny_saved_models, tmp_path, content):
    (tmp_path / pack.METADATA).write_text(content, encoding="latin-1")
    with pytest.raises(SubmissionError, match=r"dataset-metadata\.json"):
        pack.pack(tiny_saved_models / "good", tmp_path / "out", owner="someone", metadata=tmp_path / pack.METADATA)


def test_a_typing_error_in_the_variable_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("LANDMARK_ZOO_TF22_PYTHON", str(tmp_path / "no python"))
    with pytest.raises(MissingToolError, match="LANDMARK_ZOO_TF22_PYTHON names .*no python"):
        tf22.find_python()


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip"])
def test_what_is_no_zip_is_an_error(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ExportError, match=r"a\.zip is not a whole zip"):
        check(tmp_path / "a.zip")
    with pytest.raises(ExportError, match="does not exist"):
        check(tmp_path / "none.zip")


def test_folders_that_are_links_are_packed(tiny_saved_models, tmp_path):
    """As a cache or DVC leaves a SavedModel."""
    folder, cache = tmp_path / "model", tmp_path / "cache"
    shutil.copytree(tiny_saved_models / "good", folder)
    shutil.move(folder / "variables", cache)
    (folder / "variables").symlink_to(cache)
    made = pack.pack(folder, tmp_path / "upload", owner="someone", verified=False)
    with zipfile.ZipFile(made) as archive:
        names = set(archive.namelist())
    assert names == {path.relative_to(folder).as_posix() for path in files_below(folder)}
    assert "variables/variables.index" in names
    assert check(made).accepted
    assert json.loads((made.parent / pack.LISTING).read_text(encoding="utf-8")).keys() == names


def test_a_link_that_leads_back_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").symlink_to(tmp_path)
    with pytest.raises(ExportError, match="a link to a folder that it is in"):
        files_below(tmp_path)
