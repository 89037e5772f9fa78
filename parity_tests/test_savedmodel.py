"""normal form → SavedModel → TensorFlow 2.2 and preprocessing → graph, by the command lines; ensembles: `test_ensemble.py`.

The command measures its own errors and fails if one exceeds its tolerance; here it is run on small versions of several
families from both frameworks, and more than its own checks is tested.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import tf22
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import FAMILIES, SMALL_SPECS
from retrieval.demo.dataset import DemoSize, write_demo_data
from retrieval.evaluate import evaluate
from retrieval.metrics import mean_average_precision
from retrieval.ranking import write_predictions
from retrieval.solution import read_retrieval_solution
from retrieval.store import Store, in_memory
from zoo.checkpoint import save_checkpoint
from zoo.manifest import Check, require_manifest
from zoo.preprocess import resize
from zoo.signature import BATCH_SIGNATURE, DESCRIPTOR, batch_input

ROOT = Path(__file__).resolve().parents[1]
EXPORTED = [
    ("resnet18", "torch", 64),
    ("resnest50", "paddle", 64),
    ("resnest50_fast_4s2x40d", "torch", 48),
    ("neck_bn_bgr", "paddle", 64),
]
"""Both frameworks, two resolutions. All other networks: `test_matrix.py`."""


def command(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tf22_python) -> dict[str, tuple[Path, list[dict]]]:
    """SavedModel and parity rows of each of `EXPORTED`, made by `export/to_savedmodel.py`."""
    made = {}
    for name, framework, size in EXPORTED:
        folder = tmp_path_factory.mktemp(name)
        checkpoint = random_checkpoint(SMALL_SPECS[FAMILIES.get(name, name)], seed=5, framework=framework)
        save_checkpoint(folder / "model.safetensors", checkpoint)
        arguments = ["--ckpt", folder / "model.safetensors", "--size", size, "--json"]
        done = command("export/to_savedmodel.py", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        *_, figures, path = done.stdout.splitlines()
        assert Path(path) == folder / "model" / "saved_model"
        made[name] = Path(path), json.loads(figures)["parity"]
    return made


def test_every_arrow_was_measured_and_holds(exported):
    for (name, framework, _), (_, rows) in zip(EXPORTED, exported.values(), strict=True):
        arrows = ["torch ↔ paddle", f"{framework} → onnx", "onnx → normal form", "normal form → savedmodel"]
        arrows += ["preprocessing → graph", "savedmodel → tf 2.2", f"{framework} → tf 2.2"]
        assert [row["arrow"] for row in rows] == arrows, name
        for row in rows:
            assert row["max_abs"] <= row["tolerance"] <= 1e-5
            assert row["cosine"] >= 0.999999


def test_another_tensorflow_may_be_the_target(tmp_path):
    """The one of this Python needs no environment of its own."""
    checkpoint = random_checkpoint(SMALL_SPECS[FAMILIES["resnet18"]], seed=5, framework="torch")
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    done = command("export/to_savedmodel.py", "--ckpt", tmp_path / "model.safetensors", "--size", 64, "--tf", "2.19")
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = require_manifest(Path(done.stdout.split()[-1]))
    assert manifest.check == Check("2.19.1", "run", accepted=True)
    assert [row.arrow for row in manifest.parity or ()][-2:] == ["savedmodel → tf 2.19", "torch → tf 2.19"]
    assert all(row.passed for row in manifest.parity or ())


def test_any_image_size_in_tensorflow_22(exported, tf22_python, tmp_path):
    """From one pixel to twelve megapixels, portrait and panorama: finite, unit norm, equal to the Python preprocessing."""
    saved_model, size = exported["resnest50"][0], 64
    random = np.random.default_rng(4)
    shapes = [(1, 1), (1, 900), (900, 1), (2, 3), (64, 64), (63, 65), (480, 640), (4000, 3000), (200, 6000)]
    images = {f"i{h}x{w}": random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in shapes}
    images["black"], images["white"] = np.zeros((50, 40, 3), np.uint8), np.full((50, 40, 3), 255, np.uint8)
    np.savez(tmp_path / "images.npz", **images)
    resized = np.stack([resize(image, size) for image in images.values()])
    np.savez(tmp_path / "batch.npz", **{f"all/{batch_input(size)}": resized})
    contest = {"saved_model": saved_model, "inputs": tmp_path / "images.npz", "outputs": tmp_path / "one.npz"}
    batch = {"inputs": tmp_path / "batch.npz", "outputs": tmp_path / "all.npz", "signature": BATCH_SIGNATURE}
    tf22.run_calls([contest, {"saved_model": saved_model, **batch}], python=tf22_python)
    one, together = np.load(tmp_path / "one.npz"), np.load(tmp_path / "all.npz")[f"all/{DESCRIPTOR}"]
    for name, expected in zip(images, together, strict=True):
        assert one[name].dtype == np.float32
        assert one[name].shape == (64,)
        np.testing.assert_allclose(one[name], expected, rtol=0, atol=1e-5, err_msg=name)
        assert np.linalg.norm(one[name]) == pytest.approx(1, abs=1e-6), name


def test_the_contests_scorer_and_our_evaluation_agree(exported, tf22_python, tmp_path):
    """The organisers' scorer in TensorFlow 2.2, one image per call, agrees with our batches and our search."""
    data, upload = tmp_path / "data", tmp_path / "upload"
    data.mkdir()
    write_demo_data(
        data, size=DemoSize(train_landmarks=2, train_images=2, queried_seen=4, queried_unseen=4, distractors=20)
    )
    saved_model = exported["resnest50"][0]
    embeddings = {}
    for split in ("index", "test"):
        embeddings[split] = tmp_path / f"{split}_store"
        words = (
            "--saved-model",
            saved_model,
            "--data",
            data,
            "--split",
            split,
            "--out",
            embeddings[split],
            "--dtype",
            "float32",
        )
        done = command("-m", "export.embed", *words)
        assert done.returncode == 0, done.stderr[-2000:]
    truth = read_retrieval_solution(data / "retrieval_solution_v2.1.csv").everything
    index, queries = (in_memory(Store.open(path)) for path in embeddings.values())
    ranking, ours = evaluate(index, queries, truth, ["alone"])
    write_predictions(tmp_path / "predictions.csv", ranking)
    words = ("--saved-model", saved_model, "--owner", "someone", "--out", upload)
    words += ("--data", data, "--predictions", tmp_path / "predictions.csv")
    done = command("submission/pack.py", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "verified: ranked by TensorFlow 2.2.0: " in done.stderr

    scored = tf22.score(upload / "submission.zip", data / "test", data / "index", python=tf22_python)
    theirs = mean_average_precision({q: hits for q, hits in scored["predictions"].items() if q in truth}, truth)
    assert ours["members"]["alone"] == ours["ensemble"]
    assert theirs == pytest.approx(ours["ensemble"], abs=1e-9)
    assert 0 < theirs < 1
    for query, distances in zip(ranking.query_ids, ranking.distances, strict=True):
        np.testing.assert_allclose(scored["distances"][query], distances, rtol=0, atol=2e-5)


def test_an_output_folder_that_holds_something_is_left_alone(exported, tmp_path):
    saved_model = exported["resnet18"][0]
    checkpoint = saved_model.parents[1] / "model.safetensors"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for words in (
        ("export/to_savedmodel.py", "--ckpt", checkpoint, "--out", tmp_path / "mine"),
        ("-m", "export.ensemble", "--members", saved_model, "--out", tmp_path / "mine"),
    ):
        done = command(*words)
        assert done.returncode == 2
        assert "already contains 'thesis.txt'" in done.stderr
        assert "--overwrite" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_bad_input_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    done = command("-m", "export.ensemble", "--members", tmp_path / "empty", "--out", tmp_path / "e")
    assert done.returncode == 2
    assert "is not a SavedModel" in done.stderr
    done = command("export/to_savedmodel.py", "--ckpt", tmp_path / "none.safetensors")
    assert done.returncode == 2
    assert "none.safetensors does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"], "a partial folder was left behind"


OFFLINE = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit(f"a connection was asked for: {arguments}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import json, onnx
from export.writer.member import member_from_onnx
from zoo.specs import ModelSpec
model = onnx.load(sys.argv[1])
[spec] = [entry.value for entry in model.metadata_props if entry.key == "spec"]
member_from_onnx(model, ModelSpec.from_dict(json.loads(spec)))
"""


def test_the_conversion_asks_for_no_connection(exported):
    """Neither does anything that it imports."""
    done = command("-c", OFFLINE, exported["resnest50"][0].parent / "normal_form.onnx")
    assert done.returncode == 0, done.stderr[-2000:]
