"""`export/check.py`'s verdicts on SavedModels, compared with a real TensorFlow 2.2.0."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from export import check
from export.checker import make_registries, prove, registry
from export.checker.edge_types import check_types
from export.checker.finding import Finding
from export.saved_model_file import SavedGraph
from tests.export.corpus import NOBUCO, run_script, write_converted, write_in_another
from zoo.errors import ExportError

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = (
    *("batch_norm", "bfloat16_add", "bfloat16_conv", "compiled", "conv_dilated", "conv_explicit_padding"),
    *("conv_in_a_function_of_any_shape", "conv_pool", "depthwise_conv", "double_conv", "first_manner"),
    *("growing_loop", "grouped_conv_that_nothing_needs", "half_conv", "largest", "lookup", "loop", "matrix_products"),
    *("bicubic_in_double", "conv3d", "decoded_again", "extracted_patches", "grouped_conv3d", "nchw_depth_to_space"),
    *("mask_of_infinities", "nested_functions", "normalised", "not_a_number_never_chosen", "sorted_and_gathered"),
    *("max_with_minus_infinity", "nchw_bias_and_batch_norm", "new_attribute_at_its_default", "of_no_size"),
    *("planted_bad_consumer", "planted_first_manner_default_value", "planted_new_in_top_graph"),
    *("planted_newer_consumer", "planted_private_attribute", "resize_all", "resize_antialias", "split_and_concat"),
    *("transposed_conv", "two_branches", "value_of_an_old_kind", "xla_alone"),
)
REJECTED = {
    "bias_not_a_number": "1 values that are not finite, the first at [1]",
    "branch_with_grouped_conv": "takes 8 channels and its filter 4",
    "default_of_numpy": "no kind of value 'numpy_value'",
    "dense_layer_of_one_size": "shapes do not fit together",
    "depthwise_conv_explicit_padding": "no attribute 'explicit_paddings'",
    "depthwise_conv_uneven_strides": "has strides 1 and 2",
    "double_output": "found DT_DOUBLE",
    "first_manner_grouped_conv": "takes 8 channels and its filter 4",
    "first_manner_new_attribute": "no attribute 'index_type'",
    "first_manner_new_operator": "no operator BatchMatMulV3",
    "first_manner_variable": "no attribute 'debug_name'",
    "float8": "DT_FLOAT8_E5M2",
    "float_input": "found DT_FLOAT",
    "gradient_of_its_own": "a tensor kept for a gradient",
    "grouped_conv": "takes 8 channels and its filter 4",
    "grouped_conv_behind_everything": "takes 8 channels and its filter 2",
    "grouped_conv_in_a_function_of_any_shape": "takes 8 channels and its filter 4",
    "misnamed_input": "found 'image'",
    "misnamed_output": "found 'descriptor'",
    "nchw_conv": "channels first",
    "nchw_conv_in_a_loop": "channels first",
    "nchw_max_pool": "channels first",
    "new_attribute": "no attribute 'index_type'",
    "new_operator": "no operator BatchMatMulV3",
    "new_operator_in_another_function": "no operator BatchMatMulV3",
    "new_operator_that_nothing_needs": "no operator BatchMatMulV3",
    "new_random_numbers": "no operator StatelessRandomGetKeyCounter",
    "no_contest_signature": "expected the signature 'serving_default'",
    "no_kernel": "no kernel without a GPU for Cumsum T=DT_UINT32",
    "no_kernel_in_a_branch_not_taken": "no kernel without a GPU for Cumsum T=DT_UINT32",
    "no_kernel_that_nothing_needs": "no kernel without a GPU for Cumsum T=DT_UINT32",
    "not_a_number": "1 values that are not finite, the first at [1, 1, 2, 3]",
    "of_gpus_alone": "no kernel without a GPU for CudnnRNN",
    "of_gpus_alone_that_nothing_needs": "no kernel without a GPU for NcclReduce",
    "one_size": "found DT_UINT8 [32, 32, 3]",
    "output_of_two_axes": "found DT_FLOAT [1, 4]",
    "planted_default_value": "no attribute 'explicit_paddings'",
    "planted_first_manner_newer_consumer": "wants version 100000",
    "planted_lost_attribute": "'padding' is missing",
    "planted_lost_function": "which is not in the SavedModel",
    "planted_no_variables": "variables/ cannot be read",
    "planted_unknown_object": "a tensor kept for a gradient",
    "planted_unknown_padding": "found ROUND",
    "sum_of_many": "no kernel without a GPU for AccumulateNV2",
    "transposed_conv_dilated": "is dilated",
    "two_inputs": "found 'input_image', 'weight'",
    "value_of_a_new_kind": "no kind of value 'EXTENSION_TYPE_SPEC'",
    "variables_of_today": "no operator DisableCopyOnRead",
    "weights_without_bounds": "6 values that are not finite",
}
"""SavedModels of `checked_models.py` and the expected findings."""

NAMED = {
    "grouped_conv": ("layer1.0.conv2", "Conv2D"),
    "grouped_conv_in_a_function_of_any_shape": ("inner", "Conv2D"),
    "branch_with_grouped_conv": ("cond/Conv2D", "Conv2D"),
    "first_manner_grouped_conv": ("layer1.0.conv2", "Conv2D"),
    "nchw_conv": ("stem.conv", "Conv2D"),
    "nchw_conv_in_a_loop": ("while/inside", "Conv2D"),
    "nchw_max_pool": ("MaxPool2d", "MaxPool"),
    "new_operator": ("projection", "BatchMatMulV3"),
    "new_attribute": ("TopKV2", "TopKV2"),
    "no_kernel": ("Cumsum", "Cumsum"),
    "dense_layer_of_one_size": ("MatMul", "MatMul"),
    "not_a_number": ("layer4.2.conv3.weight", "Const"),
    "bias_not_a_number": ("layer3.0.bias", "Const"),
    "weights_without_bounds": ("layer1.0.conv1", "Const"),
    "planted_unknown_padding": ("MaxPool2d", "MaxPool"),
    "planted_lost_attribute": ("Conv2D", "Conv2D"),
    "transposed_conv_dilated": ("conv2d_transpose", "Conv2DBackpropInput"),
    "variables_of_today": ("Read/DisableCopyOnRead", "DisableCopyOnRead"),
}
"""The node, and its operator, that the finding must name."""

CONVERTED = {
    f"{name}_{kind}": accepted
    for name, of_onnx2tf in (("resnet18", True), ("seresnet50", True), ("resnext50_32x4d", False))
    for kind, accepted in (("ours", True), ("dynamic", of_onnx2tf), ("static", of_onnx2tf))
}
"""From our export, and raw from onnx2tf with dynamic and with fixed sizes; whether TensorFlow 2.2 runs them."""


def run(*command: object) -> subprocess.CompletedProcess:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def verdicts(
    folders: list[Path], python: Path | str, work: Path, *, contest: bool = True, onednn: bool = False
) -> dict:
    """{name: verdict of a real TensorFlow}."""
    found = prove.real_verdicts(folders, python, contest, work, onednn=onednn)
    return {folder.name: said for folder, said in found.said.items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    run_script("tests.export.checked_models", folder)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    write_converted(folder)
    return folder


@pytest.fixture(scope="module")
def real(models, tf22_python, tmp_path_factory) -> dict[str, str]:
    return verdicts(sorted(models.iterdir()), tf22_python, tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module", params=[True, False], ids=["oneDNN", "no oneDNN"])
def today(models, tmp_path_factory, request) -> tuple[bool, dict[str, str]]:
    return request.param, verdicts(
        sorted(models.iterdir()), sys.executable, tmp_path_factory.mktemp("today"), onednn=request.param
    )


@pytest.fixture(scope="module")
def real_converted(converted, tf22_python, tmp_path_factory) -> dict[str, str]:
    folders = [*(converted / name for name in CONVERTED), NOBUCO]
    return verdicts(folders, tf22_python, tmp_path_factory.mktemp("real"), contest=False)


def reasons(report: check.Report) -> str:
    return "\n".join(str(finding) for finding in report.findings if finding.rejects)


def test_every_saved_model_is_tested(models):
    assert sorted(path.name for path in models.iterdir()) == sorted([*ACCEPTED, *REJECTED])


@pytest.mark.parametrize("name", [*ACCEPTED, *REJECTED])
def test_the_verdict_is_that_of_the_real_one(name, models, real):
    report = check.check(models / name)
    assert report.accepted == (real[name] == "ran"), f"TensorFlow 2.2: {real[name]}\n{reasons(report)}"
    assert report.accepted == (name in ACCEPTED), real[name]


def test_so_are_those_for_the_current_tensorflow(models, today):
    onednn, real = today
    found = {name: check.check(models / name, "2.19.1", onednn=onednn).accepted for name in real}
    assert found == {name: said == "ran" for name, said in real.items()}
    assert sum(found.values()) > len(ACCEPTED), (
        "what TensorFlow 2.2 refuses because of its age must run in the current one"
    )


def test_what_only_onednn_runs_is_told(models):
    accepted = check.check(models / "nchw_conv", "2.19.1")
    [finding] = accepted.findings
    assert accepted.accepted and not finding.rejects and "TF_ENABLE_ONEDNN_OPTS=1" in finding.problem
    assert not check.check(models / "nchw_conv", "2.19.1", onednn=False).accepted


def test_a_tensor_may_be_kept_from_any_function_of_the_library(models, tmp_path):
    """As Keras writes swish from 2.8 on: the function is no object of its own."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder = shutil.copytree(models / "gradient_of_its_own", tmp_path / "kept")
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    objects, library = saved.meta_graphs[0].object_graph_def, saved.meta_graphs[0].graph_def.library
    kept = [node.captured_tensor for node in objects.nodes if node.WhichOneof("kind") == "captured_tensor"]
    [copied] = [function for function in library.function if function.signature.name == kept[0].concrete_function]
    library.function.add().CopyFrom(copied)
    library.function[-1].signature.name = "kept"
    for tensor in kept:
        tensor.concrete_function = "kept"
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert check.check(folder, "2.19.1").accepted
    assert verdicts([folder], sys.executable, tmp_path) == {"kept": "ran"}
    del library.function[-1]
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert "kept from the function 'kept', which is not there" in reasons(check.check(folder, "2.19.1"))
    assert verdicts([folder], sys.executable, tmp_path)["kept"] != "ran"


def test_a_result_of_another_type_is_found_where_unknown_attributes_are_dropped(models):
    """TensorFlow 2.8 loads TopKV2 without `index_type`, and then indices are int32."""
    for name in ("new_attribute", "first_manner_new_attribute"):
        report = check.check(models / name, "2.8")
        assert "expects DT_INT64 and reads DT_INT32 from 'TopKV2" in reasons(report)
        assert "no attribute" not in reasons(report)


@pytest.mark.parametrize(("kind", "problems"), [("DT_FLOAT", 0), ("DT_INT32", 1), ("DT_INVALID", 0)])
def test_a_function_may_leave_its_types_to_its_calls(kind, problems):
    """Then the argument and the result name an attribute, and have no type of their own."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    meta_graph = saved_model_pb2.SavedModel().meta_graphs.add()
    signature = meta_graph.graph_def.library.function.add().signature
    signature.name = "f"
    signature.input_arg.add(name="x", type=types_pb2.DataType.Value(kind))
    signature.output_arg.add(name="y", type=types_pb2.DataType.Value(kind))
    nodes = [("x", "Placeholder", []), ("called", "f", ["x"]), ("read", "Relu", ["called"])]
    for name, op, inputs in nodes:
        meta_graph.graph_def.node.add(name=name, op=op, input=inputs)
    for node in meta_graph.graph_def.node[::2]:
        node.attr["dtype" if node.op == "Placeholder" else "T"].type = types_pb2.DT_FLOAT
    found = check_types(SavedGraph(Path(), meta_graph, 0), registry.load_registry("2.2"))
    assert [finding.node for finding in found] == ["called", "read"][: 2 * problems]


@pytest.mark.parametrize("name", REJECTED)
def test_a_rejection_says_what_is_wrong(name, models):
    assert REJECTED[name] in reasons(check.check(models / name))


@pytest.mark.parametrize("name", NAMED)
def test_a_finding_names_the_node(name, models):
    found = [f for f in check.check(models / name).findings if f.rejects and (f.layer, f.op) == NAMED[name]]
    assert found and all(f.problem and f.remedy for f in found)
    assert name.startswith("first_manner") or all(f.function for f in found)


@pytest.mark.parametrize("name", CONVERTED)
def test_the_verdict_on_what_converters_write(name, converted, real_converted):
    report = check.check(converted / name, contest=False)
    assert report.accepted == CONVERTED[name], reasons(report)
    assert report.accepted == (real_converted[name] == "ran"), real_converted[name]


def test_all_that_is_wrong_with_raw_resnext_is_told_at_once(converted):
    found = reasons(check.check(converted / "resnext50_32x4d_static", contest=False))
    assert "DisableCopyOnRead" in found and "grouped convolution" in found


def test_the_verdict_on_what_nobuco_writes(real_converted):
    report = check.check(NOBUCO, contest=False)
    assert not report.accepted and "validate_shape" in real_converted[NOBUCO.name]
    assert "no attribute 'validate_shape'" in reasons(report) and "grouped convolution" in reasons(report)


def test_variables_are_read(tf22_python, tmp_path):
    write_in_another(tf22_python, tmp_path)
    real = verdicts([tmp_path / "good", tmp_path / "not_finite"], tf22_python, tmp_path)
    assert real["good"] == "ran" and real["not_finite"] != "ran"
    assert check.check(tmp_path / "good").accepted
    (finding,) = [f for f in check.check(tmp_path / "not_finite").findings if f.rejects]
    assert finding.node == "filters" and "the first at [0, 1, 2, 3]" in finding.problem
    (data,) = (tmp_path / "good" / "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:-40])
    (tmp_path / "good").rename(tmp_path / "cut_short")
    assert verdicts([tmp_path / "cut_short"], tf22_python, tmp_path)["cut_short"] != "ran"
    assert "variables/ cannot be read" in reasons(check.check(tmp_path / "cut_short"))


def test_other_versions_have_other_verdicts(models):
    since = {"grouped_conv": ("2.4", "2.5"), "new_attribute": ("2.4", "2.19"), "nchw_conv": ("2.8", "2.10")}
    for name, (last, first) in since.items():
        assert not check.check(models / name, last).accepted, name
        assert check.check(models / name, first).accepted, name


def test_another_signature_is_told_and_rejects_nothing(models, tmp_path):
    report = check.check(models / "no_kernel", contest=False)
    assert not report.accepted
    renamed = tmp_path / "renamed"
    shutil.copytree(models / "no_kernel", renamed)
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((renamed / "saved_model.pb").read_bytes())
    signatures = saved.meta_graphs[0].signature_def
    signatures["other"].CopyFrom(signatures["serving_default"])
    del signatures["serving_default"]
    (renamed / "saved_model.pb").write_bytes(saved.SerializeToString())
    kernels = [f for f in check.check(renamed).findings if "no kernel" in f.problem]
    assert kernels and not any(f.rejects for f in kernels)


def test_what_may_be_meant_is_told(models):
    for name in ("mask_of_infinities", "not_a_number_never_chosen"):
        (finding,) = check.check(models / name).findings
        assert not finding.rejects and "not finite" in finding.problem
    assert not check.check(models / "max_with_minus_infinity").findings


def test_arithmetic_is_counted(models):
    # 8 filters of 3×3×3 at each of 448×448 places, two operations each
    assert check.check(models / "conv_pool").gflop["serving_default"] == pytest.approx(448 * 448 * 8 * 27 * 2 / 1e9)
    assert check.check(models / "conv_pool", side=64).gflop["serving_default"] == pytest.approx(
        64 * 64 * 8 * 27 * 2 / 1e9
    )
    lines = check.describe(check.check(models / "conv_pool"), images=1_000_000, gflops=100, side=448)
    assert any(line.startswith("time: 0.2 h for 1,000,000 images, at 100 GFLOP/s") for line in lines)
    lines = check.describe(check.check(models / "conv_pool"), images=1000, gflops=100, side=448)
    assert any(line.startswith("time: less than 0.1 h for 1,000 images") for line in lines)


def test_command_line(models, tmp_path):
    done = run(sys.executable, "export/check.py", models / "conv_pool")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "TensorFlow 2.2.0 on CPUs: accepted"
    with zipfile.ZipFile(tmp_path / "submission.zip", "w") as archive:
        for path in (models / "grouped_conv").rglob("*"):
            archive.write(path, path.relative_to(models / "grouped_conv"))
    done = run(sys.executable, "-m", "export.check", tmp_path / "submission.zip", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    twin = run(sys.executable, "-m", "landmark_zoo", "check", tmp_path / "submission.zip", "--json")
    assert (twin.returncode, json.loads(twin.stdout)) == (1, report), twin.stderr
    assert not report["accepted"] and report["bytes"] == os.path.getsize(tmp_path / "submission.zip")
    (finding,) = report["findings"]
    assert (finding["layer"], finding["op"], finding["rejects"]) == ("layer1.0.conv2", "Conv2D", True)
    done = run(sys.executable, "export/check.py", tmp_path)
    assert done.returncode == 2 and "expected saved_model.pb at its root, found none" in done.stderr


def test_what_is_no_saved_model_is_said(models, tmp_path):
    with pytest.raises(ExportError, match=r"expected one of .*2\.2\.0"):
        check.check(models / "conv_pool", "1.15")
    with pytest.raises(ExportError, match="a SavedModel's folder or a zip"):
        check.check(tmp_path / "missing")
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.write(models / "conv_pool" / "saved_model.pb", "inside/saved_model.pb")
    with pytest.raises(ExportError, match="It lies in 'inside'"):
        check.check(tmp_path / "deep.zip")
    (tmp_path / "saved_model.pb").write_bytes(b"no protobuf at all")
    with pytest.raises(ExportError, match="found other bytes"):
        check.check(tmp_path)


def test_scopes_are_no_part_of_a_layers_name():
    names = {
        "PartitionedCall/StatefulPartitionedCall_1/model_6/tf.nn.convolution_3/convolution": "tf.nn.convolution_3/convolution",
        "layer1.0.conv2": "layer1.0.conv2",
        "functional_1/model/conv1": "conv1",
    }
    assert {name: Finding("", "", name).layer for name in names} == names


def test_the_registry_is_that_of_the_real_one(tf22_python):
    found = make_registries.read(tf22_python)
    assert registry.Registry(**found) == registry.load_registry("2.2.0")


def test_storing_again_changes_no_byte(tmp_path):
    assert registry.PATH.stat().st_size < 1.5e6
    copy = tmp_path / "registries.json.gz"
    shutil.copy(registry.PATH, copy)
    whole = registry.load_registry("2.2.0").__dict__
    registry.store_registries([whole], copy)
    assert copy.read_bytes() == registry.PATH.read_bytes()


def test_every_version_has_a_registry_of_its_own():
    assert {"2.2.0", "2.19.1"} <= set(registry.versions())
    for version in registry.versions():
        known = registry.load_registry(version)
        assert known.tensorflow == version
        assert "Conv2D" in known.ops and {"T": ["DT_FLOAT"]} in known.kernels["Conv2D"]
    producers = [registry.load_registry(version).graph_def["producer"] for version in registry.versions()]
    assert producers == sorted(producers) and np.unique(producers).size > 1


def test_it_shows_what_a_model_was_made_from(tiny_saved_models):
    report = check.check(tiny_saved_models / "good")
    lines = check.describe(report, images=1, gflops=1, side=448)
    assert "network: resnet18 from torch, weight 1, checkpoint 0000000000000000" in lines
    assert "parity: 1 steps measured, at most 3.0e-07 (torch → tf 2.2)" in lines
    assert check.check(tiny_saved_models / "batched", contest=False).manifest is None
