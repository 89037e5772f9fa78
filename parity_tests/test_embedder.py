"""`Embedder`: a SavedModel, an ONNX file and a checkpoint of either framework give the same descriptors for the same images."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from export import parity
from export.embedder import CHECKPOINT, ONNX, SAVED_MODEL, Embedder, kind_of
from export.parity.probes import images as probe_images
from export.writer.combine import Combination
from export.writer.convert import save_normal_form
from export.writer.member import member_from_saved_model
from export.writer.save import write_saved_model
from parity_tests.small_models import exported, in_normal_form, small_checkpoint
from retrieval.store import Store, in_memory
from zoo.checkpoint import save_checkpoint
from zoo.errors import DataError, ExportError
from zoo.manifest import Combined, require_manifest, write_manifest

NAME = "resnest14"
KINDS = {"checkpoint": CHECKPOINT, "model.onnx": ONNX, "normal_form.onnx": ONNX, "saved_model": SAVED_MODEL}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same weights as every kind of file; the names do not reveal the kind."""
    folder = tmp_path_factory.mktemp("models with a ß")
    save_checkpoint(folder / "checkpoint", small_checkpoint(NAME))
    onnx.save(exported(NAME, "paddle"), folder / "model.onnx")
    onnx.save(in_normal_form(NAME, "torch"), folder / "normal_form.onnx")
    save_normal_form(folder / "normal_form.onnx", folder / "saved_model")
    return folder


@pytest.fixture(scope="module")
def photos():
    """Uint8 images of several sizes."""
    return list(probe_images(64).values())


@pytest.fixture(scope="module")
def expected(models, photos):
    return Embedder(models / "checkpoint", framework="torch")(photos)


@pytest.mark.parametrize(
    ("name", "framework", "arrow"),
    [
        ("checkpoint", "paddle", "torch ↔ paddle"),
        ("model.onnx", None, "torch → onnx"),
        ("normal_form.onnx", None, "onnx → normal form"),
        ("saved_model", None, "normal form → savedmodel"),
    ],
)
def test_all_kinds_give_the_same_rows(models, photos, expected, name, framework, arrow):
    assert kind_of(models / name) == KINDS[name]
    found = Embedder(models / name, framework)(photos, batch_size=4)
    assert (found.dtype, found.shape) == (np.float32, (len(photos), 64))
    parity.require([parity.measure(arrow, name, {"photos": expected}, {"photos": found})])


def test_paths_and_arrays_give_the_same_rows(models, photos, expected, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        Image.fromarray(photo).save(path)
    found = Embedder(models / "checkpoint")([*paths[:3], *map(str, paths[3:])], batch_size=len(photos))
    assert np.array_equal(found, expected) or np.abs(found - expected).max() < 1e-6


def test_errors_say_what_was_found(models, tmp_path):
    (tmp_path / "text").write_text("hello, world")
    (tmp_path / "folder").mkdir()
    bare = onnx.ModelProto()
    bare.CopyFrom(exported(NAME, "torch"))
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    (tmp_path / "cut.onnx").write_bytes((models / "model.onnx").read_bytes()[:999])
    for name, message in {
        "text": "is neither a SavedModel's folder nor an ONNX file nor a checkpoint",
        "folder": r"holds no saved_model\.pb",
        "nothing": "does not exist",
        "bare.onnx": "no landmark-zoo spec in its metadata",
        "cut.onnx": "is not a usable ONNX file",
    }.items():
        with pytest.raises(ExportError, match=message):
            Embedder(tmp_path / name)
    embedder = Embedder(models / "model.onnx")
    with pytest.raises(DataError, match=r"expected uint8 \[height, width, 3\]"):
        embedder([np.zeros((8, 8, 3), np.float32)])
    with pytest.raises(DataError, match="no images"):
        embedder([])
    with pytest.raises(DataError, match="expected a list of images"):
        embedder("photo.jpg")


def test_an_ensemble_is_described_by_its_manifest(models, photos, tmp_path):
    """Two scales are two inputs, and their sizes come from the manifest, which must fit the signature."""
    write_saved_model(
        tmp_path / "ensemble", [member_from_saved_model(models / "saved_model")], Combination(scales=(1.0, 0.75))
    )
    manifest = replace(require_manifest(models / "saved_model"), combined=Combined(scales=[1.0, 0.75]))
    write_manifest(tmp_path / "ensemble", manifest)
    embedder = Embedder(tmp_path / "ensemble")
    assert embedder.describer.inputs == ((48, "antialias"), (64, "antialias"))
    assert embedder(photos[:2]).shape == (2, 64)
    write_manifest(tmp_path / "ensemble", replace(manifest, combined=None))
    with pytest.raises(
        ExportError, match=r"its manifest asks for the inputs \['images_64'\], its signature for \['images_48'"
    ):
        Embedder(tmp_path / "ensemble")


def test_the_command_embeds_with_every_kind(models, small_dataset, tmp_path):
    """`python -m export.embed MODEL`, and the older `--saved-model`."""
    rows = {}
    for words in (("checkpoint",), ("normal_form.onnx",), ("--saved-model", "saved_model")):
        out = tmp_path / words[-1].replace(".onnx", "")
        command = [
            sys.executable,
            "-m",
            "export.embed",
            *words,
            "--data",
            small_dataset,
            "--split",
            "test",
            "--dtype",
            "float32",
            "--out",
            out,
        ]
        done = subprocess.run(command, cwd=models, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == str(out)
        rows[words[-1]] = in_memory(Store.open(out))
    first = rows["checkpoint"]
    assert first.source["framework"] == "torch"
    assert rows["normal_form.onnx"].source["checkpoint"] == first.source["checkpoint"]
    for name, found in rows.items():
        assert found.ids == first.ids
        np.testing.assert_allclose(found.descriptors, first.descriptors, rtol=0, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory):
    """A few images in the GLDv2 layout."""
    from retrieval.demo.dataset import DemoSize, write_demo_data

    folder = tmp_path_factory.mktemp("data")
    write_demo_data(
        folder, size=DemoSize(train_landmarks=2, train_images=2, queried_seen=2, queried_unseen=1, distractors=2)
    )
    return folder


def test_no_framework_is_imported_before_a_model_is_opened():
    heavy = "{'torch', 'paddle', 'tensorflow', 'onnxruntime', 'onnx'}"
    code = f"import sys, export.embedder, export.embed; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
