"""A network of timm's by `to_savedmodel --onnx`, from end to end: into TensorFlow 2.2, into an ensemble, into an upload."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import check
from export.embedder import SavedModelDescriber, call_batch
from export.network_options import require_fitting
from export.tf22.runner import find_python
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import small
from submission import pack
from tests.export.foreign_networks import CONV, FLAT, POOL, node, written
from zoo.checkpoint import save_checkpoint
from zoo.errors import SpecError
from zoo.manifest import require_manifest
from zoo.specs import ImportedSpec, PreprocessSpec

ROOT = Path(__file__).resolve().parents[2]
SIZE, LENGTH = 64, 1024
ARROWS = ["onnx → normal form", "normal form → savedmodel", "preprocessing → graph"]
IN_TF22 = ["savedmodel → tf 2.2", "onnx → tf 2.2"]


def run(*words: object) -> subprocess.CompletedProcess:
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def made(*words: object) -> list[str]:
    done = run(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """model.onnx of a MobileNet v3 with random weights, and images.npz with its descriptors in ONNX Runtime."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("timm") / "mobilenet"
    made("-m", "benchmarks.coverage_networks", "--family", "MobileNetV3", "--size", SIZE, "--out", folder)
    return folder


@pytest.fixture(scope="module")
def exported(network) -> tuple[Path, list[dict]]:
    """The SavedModel, and the rows that were measured."""
    out = network.parent / "exported"
    words = ("--onnx", network / "model.onnx", "--size", SIZE, "--name", "mobilenet_v3", "--out", out, "--json")
    *_, figures, path = made("export/to_savedmodel.py", *words)
    assert Path(path) == out / "saved_model"
    return Path(path), json.loads(figures)["parity"]


def test_every_step_is_within_its_tolerance(exported):
    rows = exported[1]
    assert [row["arrow"] for row in rows] == ARROWS + (IN_TF22 if find_python() else [])
    assert all(row["max_abs"] <= row["tolerance"] <= 1e-5 and row["model"] == "mobilenet_v3 (onnx)" for row in rows)


def test_it_computes_what_the_file_computes(network, exported):
    with np.load(network / "images.npz") as arrays:
        pixels, expected = arrays["pixels"], arrays["expected"]
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    found = call_batch(exported[0], {f"images_{SIZE}": pixels})
    np.testing.assert_allclose(found, unit, rtol=0, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_the_manifest_says_what_is_known(exported):
    manifest = require_manifest(exported[0])
    [source] = manifest.sources
    assert source.spec == ImportedSpec("mobilenet_v3", PreprocessSpec(SIZE), LENGTH)
    assert (source.exported_from, source.storage["static"]) == ("onnx", True)
    assert "pytorch" in source.versions
    report = check.check(exported[0])
    assert report.accepted, report.findings
    [line] = [line for line in check.describe(report, 1, 1, SIZE) if line.startswith("network: ")]
    assert line == f"network: mobilenet_v3 from onnx, weight 1, fingerprint {source.checkpoint_sha256[:16]}"


@pytest.mark.parametrize("options", [("--half",), ("--converter", "onnx2tf")])
def test_it_may_be_stored_and_converted_otherwise(options, tmp_path):
    path = written(tmp_path / "given.onnx", [CONV, POOL, FLAT])
    words = ("--onnx", path, "--size", 32, "--out", tmp_path / "out", *options, "--json")
    *_, figures, saved = made("export/to_savedmodel.py", *words)
    rows = json.loads(figures)["parity"]
    assert {row["arrow"] for row in rows} >= {*ARROWS, *(IN_TF22[:1] if find_python() else [])}
    assert all(row["max_abs"] <= row["tolerance"] for row in rows)
    [source] = require_manifest(Path(saved)).sources
    half = "--half" in options
    assert ("normal form → float16" in {row["arrow"] for row in rows}) == source.storage["half"] == half
    assert source.converter == ("writer" if half else "onnx2tf")


@pytest.fixture(scope="module")
def ensemble(exported, tmp_path_factory) -> Path:
    """Of the foreign network and one of the zoo, of another size."""
    folder = tmp_path_factory.mktemp("ensemble")
    save_checkpoint(folder / "own.safetensors", random_checkpoint(small("resnet18").resized(48), seed=5))
    made("export/to_savedmodel.py", "--ckpt", folder / "own.safetensors", "--no-verify")
    words = ("--members", exported[0], folder / "own" / "saved_model", "--weights", 1, 0.5, "--out", folder / "both")
    return Path(made("-m", "export.ensemble", *words)[-1])


def test_it_joins_an_ensemble_with_a_network_of_the_zoo(ensemble):
    describer = SavedModelDescriber(ensemble)
    assert [wanted.size for wanted in describer.inputs] == [48, SIZE]
    random = np.random.default_rng(0)
    batch = {
        wanted: random.uniform(0, 255, (2, *[wanted.size] * 2, 3)).astype(np.float32) for wanted in describer.inputs
    }
    found = describer(batch)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found[:, :LENGTH], axis=1), 1 / np.hypot(1, 0.5), rtol=0, atol=1e-5)


def test_another_scale_is_refused(exported, tmp_path):
    done = run("-m", "export.ensemble", "--members", exported[0], "--scales", 0.7, 1, "--out", tmp_path / "views")
    assert done.returncode == 2
    assert "mobilenet_v3 takes only images of 64 px" in done.stderr
    assert not (tmp_path / "views").exists()


def test_it_is_packed_and_run_in_tensorflow_2_2(exported, tmp_path, tf22_python):
    pack.pack(exported[0], tmp_path / "upload", owner="someone", licence="apache-2.0")
    card = (tmp_path / "upload" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "was unzipped and run in TensorFlow 2.2.0" in card
    assert "| mobilenet_v3 | elsewhere (an ONNX file) | 64 | 1024 |" in card


def test_what_cannot_be_written_names_the_node_and_leaves_nothing(tmp_path):
    nodes = [CONV, node("Hardmax", ["map"], ["hard"], axis=1), node("GlobalAveragePool", ["hard"], ["vector"])]
    path = written(tmp_path / "given.onnx", [*nodes, POOL])
    done = run("export/to_savedmodel.py", "--onnx", path, "--size", 32, "--out", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Hardmax at" in done.stderr
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either --ckpt, a checkpoint, or --onnx"),
        ({"ckpt": "a", "onnx": "b"}, "found ckpt and onnx"),
        ({"onnx": "b"}, "--onnx needs --size"),
        ({"onnx": "b", "size": 64, "framework": "torch"}, "--framework belongs to --ckpt; leave it out with --onnx"),
        ({"onnx": "b", "size": 64, "check_sizes": [96]}, "--check-sizes belongs to --ckpt"),
        ({"ckpt": "a", "mean": (0, 0, 0)}, "--mean belongs to --onnx"),
        ({"ckpt": "a", "output": "features"}, "--output belongs to --onnx"),
    ],
)
def test_options_of_the_other_kind_of_network_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        require_fitting(options)
    require_fitting({"ckpt": "a", "framework": "torch", "size": None, "mean": None, "check_sizes": []})
    require_fitting({"onnx": "b", "size": 64, "mean": (0, 0, 0), "framework": None})
