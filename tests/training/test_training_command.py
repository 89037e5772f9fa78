"""The training command: what it starts from, what it refuses, and what it writes besides the checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.tiny_data import write_tiny_data
from training.state import state_folder
from zoo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from zoo.weights import initial_weights

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
models: [resnet10_narrow]
batch_size: 8
average: 0.9
validation: {classes: 0.3, steps: 3}
stages:
  - {epochs: 2, resolution: 32, margin: 0.1, learning_rate: 0.02}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("with a space") / "data", RECIPE, landmarks=7, images=8)


def train(
    data: Path, out: Path, *more: object, framework: str = "torch", cwd: Path = ROOT
) -> subprocess.CompletedProcess:
    words = ["--recipe", data / "recipe.yaml", "--data", data, "--out", out, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"{framework}_models.train", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_everything_that_a_run_leaves(data, tmp_path, framework):
    pytest.importorskip(framework)
    done = train(data, Path("a.safetensors"), "--tensorboard", "events", framework=framework, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a.safetensors\n"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.safetensors", "a.average.safetensors", "a.best.safetensors", "a.history.csv", "events"}
    assert list((tmp_path / "events" / "a").glob("events.out.tfevents.*"))
    last, average, best = (load_checkpoint(tmp_path / f"a{kind}.safetensors") for kind in ("", ".average", ".best"))
    assert last.classes == average.classes == 5
    assert best.classes == 0
    assert best.provenance["validation mAP@100"] >= 0
    assert f"best {best.provenance['validation mAP@100']:.4f}" in done.stderr
    key = "neck.linear.weight"
    assert not np.array_equal(last.weights[key], average.weights[key])
    assert "step 3: mAP@100" in done.stderr


def test_a_training_starts_from_another_checkpoint(data, tmp_path):
    pytest.importorskip("torch")
    from training.recipes import read_recipe

    spec = read_recipe(data / "recipe.yaml").spec("resnet10_narrow")
    weights = initial_weights(spec, [1] * 3, 99)
    weights["backbone.bn1.running_mean"] += 5
    save_checkpoint(tmp_path / "start.safetensors", Checkpoint(spec, weights, 3, {}))
    frozen = ("--set", "frozen=[backbone]", "average=null", "validation=null")
    done = train(data, tmp_path / "a.safetensors", "--init", tmp_path / "start.safetensors", *frozen)
    assert done.returncode == 0, done.stderr
    assert "starting from" in done.stderr
    assert "new class weights" in done.stderr
    found = load_checkpoint(tmp_path / "a.safetensors").weights
    assert all(np.array_equal(found[n], v) for n, v in weights.items() if n.startswith("backbone."))
    assert not np.array_equal(found["neck.linear.weight"], weights["neck.linear.weight"])


REFUSED = {
    "another backbone": (["--init", "{other}"], "has no fitting backbone"),
    "no checkpoint": (["--init", "{recipe}"], "is not a readable safetensors file"),
    "no gpu": (["--device", "cuda:7"], "there is no GPU 7"),
    "a wrong key": (["--set", "stages.0.margn=1"], "unknown key 'margn'"),
    "a batch that cannot be divided": (["--set", "accumulation=3"], "cannot be computed in 3 equal parts"),
    "all classes held out": (["--set", "validation.classes=0.999"], ""),
    "minutes": (["--state-minutes", "-1"], "argument --state-minutes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing(data, tmp_path, case):
    pytest.importorskip("torch")
    from zoo.variants import get_spec

    spec = get_spec("resnest14_narrow")
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, Checkpoint(spec, initial_weights(spec, (), 0), 0, {}))
    words, message = REFUSED[case]
    out = tmp_path / "out" / "a.safetensors"
    out.parent.mkdir()
    done = train(data, out, *(word.format(other=other, recipe=data / "recipe.yaml") for word in words))
    if not message:  # the share is cut to what leaves something to train on
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.parent.iterdir())


def test_paddle_does_not_train_compiled(data, tmp_path):
    pytest.importorskip("paddle")
    done = train(data, tmp_path / "a.safetensors", "--compile", framework="paddle")
    assert done.returncode == 2
    assert "only PyTorch trains compiled" in done.stderr


def test_a_training_that_diverges_says_where_and_keeps_its_state(data, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "a.safetensors"
    wild = ("gradient_clip=null", "stages.0.learning_rate=100", "stages.0.epochs=40", "validation=null")
    done = train(data, out, "--set", *wild)
    assert done.returncode == 2, done.stderr
    assert "so the training diverged" in done.stderr
    assert "Lower the recipe's learning_rate" in done.stderr
    assert not out.exists()
    assert state_folder(out).exists() == ("is kept" in done.stderr)
