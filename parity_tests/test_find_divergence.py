"""The divergence finder finds nothing in identical networks, and finds a planted error."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity_tests import taps
from parity_tests.find_divergence import TOLERANCE, errors, first_divergence, layers_of
from parity_tests.small_models import FAMILIES, small_checkpoint
from zoo.checkpoint import Checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PIXELS = np.random.default_rng(1).uniform(0, 255, (1, 64, 97, 3)).astype(np.float32)


def planted(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """The two halves of one tensor swapped."""
    swapped = np.concatenate(np.split(checkpoint.weights[name], 2)[::-1])
    return replace(checkpoint, weights=checkpoint.weights | {name: swapped})


@pytest.mark.parametrize(
    "name", ["resnest50", "resnest50_fast_4s2x40d", "res2net50_vd", "resnext50_32x4d", "resnet18_ibn_a"]
)
@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_every_relu_is_still_there_in_the_normal_form(name, framework):
    """Layers that were split or grouped have the framework's values when put together again."""
    checkpoint = small_checkpoint(FAMILIES[name])
    ours = layers_of(checkpoint, framework, framework, PIXELS)
    normal = layers_of(checkpoint, "normal_form", framework, PIXELS)
    assert list(normal) == [layer for layer in ours if taps._RELU.fullmatch(layer)] + [taps.DESCRIPTOR]
    measured = errors(ours, normal)
    assert len(measured) == len(normal)
    assert max(measured.values()) < TOLERANCE / 10


@pytest.mark.parametrize(
    ("tensor", "place", "layer", "before"),
    [
        ("backbone.layer2.0.conv2.fc2.weight", "onnx", "backbone.layer2.0.act3", "backbone.layer2.0.conv2.act1"),
        ("backbone.layer1.1.conv1.weight", "normal_form", "backbone.layer1.1.act1", "backbone.layer1.0.act3"),
        ("backbone.layer3.0.bn3.bias", "paddle", "backbone.layer3.0.bn3", "backbone.layer3.0.conv3"),
        ("neck.linear.weight", "onnx", "descriptor", "backbone.layer4.0.act3"),
    ],
)
def test_a_planted_error_is_found_where_it_is(tensor, place, layer, before):
    checkpoint = small_checkpoint(FAMILIES["resnest50"])
    measured = errors(
        layers_of(checkpoint, "torch", "torch", PIXELS),
        layers_of(planted(checkpoint, tensor), place, "torch", PIXELS),
    )
    found = first_divergence(measured)
    assert (found.layer, found.before) == (layer, before)
    assert found.error > 100 * TOLERANCE
    assert found.error_before < TOLERANCE / 10


def test_what_is_not_a_number_is_a_divergence():
    layers = {"a": np.ones(3), "b": np.ones(3), "c": np.ones(3)}
    for bad in (np.array([1, np.nan, 1]), np.ones(4)):
        assert first_divergence(errors(layers, layers | {"b": bad})).layer == "b"
    assert first_divergence(errors(layers, layers)) is None


def test_the_command_reaches_tensorflow_22(tmp_path, tf22_python):
    checkpoint = small_checkpoint(FAMILIES["resnest50"])
    save_checkpoint(tmp_path / "whole.safetensors", checkpoint)
    save_checkpoint(tmp_path / "planted.safetensors", planted(checkpoint, "backbone.layer3.0.conv2.conv.weight"))
    words = [sys.executable, "parity_tests/find_divergence.py", "--ckpt", tmp_path / "whole.safetensors"]
    words += ["--from", "torch", "--to", "tf22"]
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("they agree: 24 layers")
    words += ["--to-ckpt", tmp_path / "planted.safetensors"]
    done = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stdout.startswith("they part at backbone.layer3.0.conv2.act0 (")
    assert "the last that agrees is backbone.layer3.0.act1" in done.stdout
