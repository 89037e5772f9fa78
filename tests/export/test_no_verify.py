"""`export/to_savedmodel.py --no-verify`: it prints a warning, compares nothing, and TensorFlow 2.2 accepts the result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import check
from export.writer.member import member_from_saved_model
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import small
from zoo.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
STORAGE = ("--half", "--static", "--store", "variables")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """The command's output and the folder that it made."""
    folder = tmp_path_factory.mktemp("unverified")
    save_checkpoint(folder / "model.safetensors", random_checkpoint(small("resnet18"), seed=5))
    words = ("export/to_savedmodel.py", "--ckpt", folder / "model.safetensors", "--no-verify", "--json", *STORAGE)
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False), folder / "model"


def test_it_says_loudly_that_nothing_was_verified(done):
    process, folder = done
    assert process.returncode == 0, process.stderr[-3000:]
    (line,) = [line for line in process.stderr.splitlines() if "NOT VERIFIED" in line]
    assert "--no-verify" in line and "nothing was compared" in line
    *_, figures, path = process.stdout.splitlines()
    assert (json.loads(figures), Path(path)) == ({"parity": []}, folder / "saved_model")
    assert "→ tf 2.2" not in process.stderr and "TensorFlow 2.2\n" not in process.stderr


def test_there_is_no_parity_to_be_taken_for_a_verdict(done):
    assert sorted(path.name for path in done[1].iterdir()) == ["model.onnx", "normal_form.onnx", "saved_model"]


def test_the_checker_accepts_what_it_made(done):
    report = check.check(done[1] / "saved_model")
    assert report.accepted, report.findings
    assert report.gflop["serving_default"] > 0


def test_it_is_stored_as_was_asked(done):
    network = member_from_saved_model(done[1] / "saved_model")
    assert network.shape == (None, 64, 64, 3)
    assert {array.dtype for array in network.graph.weights.values() if array.ndim == 4} == {np.dtype(np.float16)}
    assert (
        done[1] / "saved_model" / "variables" / "variables.data-00000-of-00001"
    ).stat().st_size > 0.9 * network.weight_bytes
