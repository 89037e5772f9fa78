"""onnx2tf as the second converter: the same signatures, descriptors and tolerances, in the current TensorFlow and in 2.2.

It is an independent check of our own writer too: both turn a normal form into the same network.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.normal_form.half import rounded_to_half
from export.parity import probes
from export.parity.everywhere import Served, run_current, run_onnx, run_target
from export.storage import Storage
from export.writer.member import member_from_saved_model
from export.writer.onnx2tf import save_with_onnx2tf
from parity_tests.small_models import FAMILIES, SMALL_SPECS, in_normal_form
from zoo.errors import ExportError, MissingToolError
from zoo.manifest import require_manifest
from zoo.signature import batch_input
from zoo.tolerances import TOLERANCES, compare

MEMBERS = {
    "resnest50": ("paddle", Storage()),
    "neck_bn_bgr": ("torch", Storage(weights="variables")),
    "resnext50_32x4d": ("torch", Storage(static=True, half=True)),
}
"""Split attention, BGR channels and grouped convolutions; from both frameworks, stored in every way."""
SIZE = 64
IMAGES = probes.images(SIZE)


def _batches(storage: Storage) -> dict[str, np.ndarray]:
    batches = probes.pixel_batches(SIZE)
    return {key: pixels for key, pixels in batches.items() if not storage.static or pixels.shape[1:3] == (SIZE, SIZE)}


def _named(name: str) -> dict[str, dict[str, np.ndarray]]:
    preprocess = SMALL_SPECS[FAMILIES.get(name, name)].preprocess
    key = batch_input(preprocess.size, preprocess.resize)
    return {batch: {key: pixels} for batch, pixels in _batches(MEMBERS[name][1]).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with each network's normal form, and the SavedModel that onnx2tf and `save.py` make of it."""
    folder = tmp_path_factory.mktemp("onnx2tf")
    for name, (framework, storage) in MEMBERS.items():
        onnx.save(in_normal_form(FAMILIES.get(name, name), framework), folder / f"{name}.onnx")
        save_with_onnx2tf(folder / f"{name}.onnx", folder / name, storage)
    return folder


@pytest.fixture(scope="module")
def served(folder) -> dict[str, Served]:
    """Descriptors of batches and images from the current TensorFlow."""
    return {name: run_current(folder / name, _named(name), IMAGES) for name in MEMBERS}


@pytest.mark.parametrize("name", MEMBERS)
def test_onnx2tf_makes_the_network_of_the_normal_form(name, folder, served):
    model, storage = onnx.load(folder / f"{name}.onnx"), MEMBERS[name][1]
    preprocess = SMALL_SPECS[FAMILIES.get(name, name)].preprocess
    expected = run_onnx(rounded_to_half(model) if storage.half else model, _batches(storage), preprocess)
    found, _ = served[name]
    assert set(found) == set(expected)
    for key, descriptors in expected.items():
        difference = compare(descriptors, found[key])
        assert difference.within(TOLERANCES["normal form → savedmodel"]), (key, str(difference))
        # Different pictures have different descriptors, so the comparison is meaningful.
        assert len(descriptors) == 1 or np.abs(descriptors[0] - descriptors[1]).max() > 1e-3


@pytest.mark.parametrize("name", MEMBERS)
def test_tensorflow_2_2_runs_both_signatures(name, folder, served, tf22_python):
    for expected, found in zip(served[name], run_target(folder / name, _named(name), IMAGES), strict=True):
        assert set(found) == set(expected)
        for key, descriptors in expected.items():
            difference = compare(descriptors, found[key])
            assert difference.within(TOLERANCES["savedmodel → tf 2.2"]), (key, str(difference))


@pytest.mark.parametrize("name", MEMBERS)
def test_the_manifest_names_the_converter(name, folder):
    manifest = require_manifest(folder / name)
    assert [source.converter for source in manifest.sources] == ["onnx2tf"]
    assert manifest.versions["onnx2tf"] == "1.28.8"
    assert (folder / name / "variables").is_dir() or MEMBERS[name][1].weights != "variables"


@pytest.mark.parametrize("name", MEMBERS)
def test_an_ensemble_can_read_the_member_back(name, folder):
    member = member_from_saved_model(folder / name)
    nodes = {node.name for node in member.graph.graph_def.node}
    assert set(member.graph.weights) <= nodes
    assert {output.partition(":")[0] for output in member.graph.outputs} <= nodes
    inputs = {i.removeprefix("^").partition(":")[0] for node in member.graph.graph_def.node for i in node.input}
    assert inputs <= nodes


def test_a_missing_onnx2tf_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx2tf", None)
    with pytest.raises(MissingToolError, match=r"pip install 'landmark-zoo\[onnx2tf\]'"):
        save_with_onnx2tf(tmp_path / "normal_form.onnx", tmp_path / "out")


def test_what_onnx2tf_cannot_convert_is_an_error_and_leaves_nothing(tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(in_normal_form("resnet18", "torch"))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "LpPool"  # which it does not know; over one pixel
    relu.attribute.append(onnx.helper.make_attribute("kernel_shape", [1, 1]))
    onnx.save(model, tmp_path / "normal_form.onnx")
    with pytest.raises(ExportError, match="onnx2tf could not convert"):
        save_with_onnx2tf(tmp_path / "normal_form.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
