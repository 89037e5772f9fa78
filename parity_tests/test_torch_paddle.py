"""torch ↔ paddle: the same weights give the same descriptors and intermediates; `test_training.py` trains them."""

import numpy as np
import pytest
import torch

import paddle_models.arc_margin
import paddle_models.checkpoint
import paddle_models.embedder
import torch_models.arc_margin
import torch_models.checkpoint
import torch_models.embedder
from export import parity
from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import small
from zoo.checkpoint import load_checkpoint, save_checkpoint
from zoo.variants import SPECS
from zoo.weights import parameter_shapes

FLOAT64 = 1e-9
"""Relative to the largest value: in float64 the same network in two frameworks differs only by the order of sums. The headroom
is for other machines."""


def double(model, weights):
    """The model in float64, with these weights."""
    model = model.double() if isinstance(model, torch.nn.Module) else model.to(dtype="float64")
    package = torch_models if isinstance(model, torch.nn.Module) else paddle_models
    package.checkpoint.load_weights(model, {name: value.astype(np.float64) for name, value in weights.items()})
    return model


def test_every_intermediate_in_float64(small_checkpoint, network_inputs):
    models = [
        double(p.embedder.Embedder(small_checkpoint.spec), small_checkpoint.weights)
        for p in (torch_models, paddle_models)
    ]
    for images in network_inputs:
        ours = torch_models.embedder.intermediates(models[0], images.astype(np.float64))
        theirs = paddle_models.embedder.intermediates(models[1], images.astype(np.float64))
        assert list(ours) == list(theirs), "the modules have different names"
        assert len(ours) > 40
        for name, value in ours.items():
            scale = np.abs(value).max()
            assert 1e-3 < scale < 1e3, f"{name} is {scale}: a tolerance would be meaningless"
            np.testing.assert_allclose(theirs[name], value, rtol=0, atol=FLOAT64 * scale, err_msg=name)


def test_descriptors_in_float32(small_checkpoint, network_inputs):
    sides = []
    for package in (torch_models, paddle_models):
        model = package.checkpoint.build(small_checkpoint)
        outputs = [package.embedder.intermediates(model, images)["descriptor"] for images in network_inputs]
        sides.append({str(number): output for number, output in enumerate(outputs)})
    parity.require([parity.measure("torch ↔ paddle", "small", *sides)])
    together = np.concatenate(list(sides[0].values()))
    together /= np.linalg.norm(together, axis=1, keepdims=True)
    apart = np.linalg.norm(together[:, None] - together, axis=2)
    assert np.median(apart) > 0.25, "different pictures have nearly the same descriptor: no comparison could fail"


def test_a_checkpoint_of_one_loads_in_the_other(tmp_path, small_checkpoint, network_inputs):
    """Written from one framework's tensors and read by the other, nothing is lost, bit for bit."""
    for writer, reader in ((torch_models, paddle_models), (paddle_models, torch_models)):
        model = writer.checkpoint.build(small_checkpoint)
        written = small_checkpoint.__class__(small_checkpoint.spec, writer.checkpoint.read_weights(model), 0, {})
        save_checkpoint(tmp_path / "model.safetensors", written)
        again = reader.checkpoint.read_weights(reader.checkpoint.build(load_checkpoint(tmp_path / "model.safetensors")))
        assert again.keys() == small_checkpoint.weights.keys()
        for name, value in small_checkpoint.weights.items():
            assert np.array_equal(again[name], value), name


@pytest.mark.parametrize("name", SPECS)
def test_every_variant_has_the_shapes_of_its_spec(name):
    """Built at full size on PyTorch's meta device, which needs no memory; Paddle's small versions have the same names."""
    spec = SPECS[name]
    with torch.device("meta"):
        state = torch_models.embedder.Embedder(spec).state_dict()
    found = {n: tuple(v.shape) for n, v in state.items() if not n.endswith("num_batches_tracked")}
    assert found == parameter_shapes(spec)


def test_the_planted_swap_is_seen(network_inputs):
    """Two swapped splits of one attention change the descriptors."""
    checkpoint = random_checkpoint(small("resnest50"), seed=7)
    name = "backbone.layer2.0.conv2.fc2.weight"
    swapped = checkpoint.weights | {name: np.concatenate(np.split(checkpoint.weights[name], 2)[::-1])}
    whole = torch_models.checkpoint.build(checkpoint)
    planted = paddle_models.checkpoint.build(checkpoint.__class__(checkpoint.spec, swapped, 0, {}))
    images = network_inputs[1]
    ours = torch_models.embedder.intermediates(whole, images)["descriptor"]
    theirs = paddle_models.embedder.intermediates(planted, images)["descriptor"]
    assert not parity.measure("torch ↔ paddle", "planted", {"x": ours}, {"x": theirs}).passed
