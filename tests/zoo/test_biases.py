"""Biases of convolutions that BatchNorm follows: an import moves them into its mean."""

import dataclasses
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.import_weights import import_weights
from zoo.published.biases import mean_behind, mean_without_bias
from zoo.variants import get_spec
from zoo.weights import initial_weights, parameter_shapes


def test_a_bias_before_batch_norm_moves_its_mean():
    random = np.random.default_rng(0)
    features, bias, mean = random.normal(size=(50, 4)), random.normal(size=4), random.normal(size=4)
    moved = mean_without_bias(mean.astype(np.float32), bias.astype(np.float32))
    np.testing.assert_allclose(features + bias - mean, features - moved, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "bias", "mean"),
    [
        ("resnet50_v1", "conv1", "bn1"),
        ("resnet50_v1", "layer2.0.conv3", "layer2.0.bn3"),
        ("resnet50_v1", "layer2.0.downsample.0", "layer2.0.downsample.1"),
        ("resnet50_v1", "layer2.1.downsample.0", None),
        ("resnet50_vd", "layer2.0.downsample.0", None),
        ("resnet50_v2", "layer2.0.conv3", None),
        ("resnetv2_50", "layer2.0.conv1", None),
    ],
)
def test_which_batch_norm_follows(model, bias, mean):
    """vd's shortcut begins with a pooling; in a pre-activation network the next BatchNorm reads a sum, or has another number."""
    spec = get_spec(model).headless()
    found = mean_behind(f"backbone.{bias}.bias", spec.backbone, parameter_shapes(spec))
    assert found == (mean and f"backbone.{mean}.running_mean")


BIASED = {"conv1": "bn1", "layer1.0.conv2": "layer1.0.bn2", "layer2.0.downsample.0": "layer2.0.downsample.1"}


@pytest.mark.parametrize("kind", ["torch", "paddle", "paddle in bfloat16"])
def test_an_import_moves_the_biases_and_says_how_many(tmp_path, capsys, kind):
    spec = get_spec("resnet50_v1")
    backbone = dataclasses.replace(spec.backbone, depths=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem_channels=4)
    spec = dataclasses.replace(spec, backbone=backbone).headless()
    plain = {name.removeprefix("backbone."): value for name, value in initial_weights(spec, (), seed=2).items()}
    for layer, norm in BIASED.items():
        plain[f"{norm}.running_mean"] += 0.5
        plain[f"{layer}.bias"] = np.arange(len(plain[f"{norm}.running_mean"]), dtype=np.float32)
    if kind == "torch":
        save_file(plain, tmp_path / "weights")
    else:
        paddle = {
            name.replace("running_mean", "_mean").replace("running_var", "_variance"): plain[name] for name in plain
        }
        if kind == "paddle in bfloat16":
            paddle = {name: (value.view(np.uint32) >> 16).astype(np.uint16) for name, value in paddle.items()}
        (tmp_path / "weights").write_bytes(pickle.dumps(paddle, protocol=2))
    found = import_weights(tmp_path / "weights", spec, headless=True).weights
    for norm in BIASED.values():
        mean = found[f"backbone.{norm}.running_mean"]
        np.testing.assert_array_equal(mean, 0.5 - np.arange(len(mean)))
    assert "weights: the biases of 3 convolutions were moved into the means" in capsys.readouterr().err
