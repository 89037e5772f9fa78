"""Ctrl-C in training, in both frameworks: the resumed run computes the same weights, bit for bit on one thread."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.default_signals import default_signals
from tests.training.tiny_data import write_tiny_data
from training.history import history_path, read_history
from zoo.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
models: [resnest14_narrow]
batch_size: 4
head: {pool: avg_gem, neck: linear_bn, neck_bias: true, embedding_size: 64}
channels: bgr
loss: {kind: curricular_face}
augmentation: {crop_area: [0.5, 1.0], jitter: 0.2}
stages:
  - {epochs: 15, resolution: 32, margin: 0.1, learning_rate: 0.02, warmup_epochs: 1}
  - {epochs: 15, resolution: 40, margin: 0.2, learning_rate: 0.01}
"""
STEPS = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Sixteen small photographs of four landmarks."""
    return write_tiny_data(tmp_path_factory.mktemp("data"), RECIPE)


def start(framework: str, data: Path, out: Path, *more: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        f"{framework}_models.train",
        "--recipe",
        data / "recipe.yaml",
        "--data",
        data,
        "--out",
        out,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words, pipe = [*map(str, command), *more], subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=pipe, text=True, preexec_fn=default_signals)


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_interrupted_and_resumed_is_unbroken_to_the_bit(framework, data, tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    process = start(framework, data, whole)
    assert process.wait() == 0, process.stderr.read()

    process, seen = start(framework, data, broken), ""
    # The progress bar shows that steps are done; then Ctrl-C, as a terminal sends it.
    while not re.search(rf" [1-9][0-9]*/{STEPS}", seen) and process.poll() is None:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait() == 130
    assert "Run the same command again: training, embedding and the pipeline continue" in said
    assert not broken.exists()
    state = tmp_path / "broken.state"
    assert state.exists()

    other = start(framework, data, broken, "--seed", "9")
    assert other.wait() == 2
    assert "is the state of another run" in other.stderr.read()

    process = start(framework, data, broken)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "resuming after step" in said
    assert not state.exists()
    expected, found = load_checkpoint(whole), load_checkpoint(broken)
    assert found.provenance == expected.provenance
    assert (found.spec.head.neck, found.spec.preprocess.channels) == ("linear_bn", "bgr")
    assert found.weights["arc_margin.mean_cosine"] != 0, "the loss's state is part of the checkpoint"
    for name, value in expected.weights.items():
        assert np.array_equal(found.weights[name], value), name
    histories = [history_path(path).read_text() for path in (whole, broken)]
    assert histories[0] == histories[1]
    assert len(read_history(whole)) == STEPS
    process = start(framework, data, whole)
    assert "this run is finished" in process.communicate()[1]
    assert process.returncode == 2


@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_a_damaged_photograph_is_named_and_replaced(data, tmp_path, damage):
    victim = next((data / "train" / "2").rglob("*.jpg"))
    whole = victim.read_bytes()
    victim.unlink()
    if damage == "cut off":
        victim.write_bytes(whole[: len(whole) // 2])
    try:
        process = start("torch", data, tmp_path / "model.safetensors")
        said = process.communicate()[1]
    finally:
        victim.write_bytes(whole)
    assert process.returncode == 0, said
    assert f"{victim}: {'no such file' if damage == 'missing' else ''}" in said
    assert "the epoch's next image takes its place" in said
