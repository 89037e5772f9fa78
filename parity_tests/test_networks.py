"""The networks as PyTorch and Paddle users expect them: traceable, scriptable, in half precision, with feature maps."""

import numpy as np
import paddle
import pytest
import torch

import paddle_models.create
import torch_models.create
from parity_tests.small_models import SMALL_SPECS, small_checkpoint
from torch_models.checkpoint import build
from zoo.errors import SpecError
from zoo.variants import get_spec

FEATURES = 1e-5
"""Relative to a feature map's largest value: float32 sums in another order."""


def images(size=64, height=None):
    """Float32 [2, 3, height, size]."""
    return np.random.default_rng(3).normal(size=(2, 3, height or size, size)).astype(np.float32)


@pytest.mark.parametrize("name", SMALL_SPECS)
def test_traced_and_scripted_networks_compute_the_same(name):
    model = build(small_checkpoint(name))
    scripted, traced = torch.jit.script(model), torch.fx.symbolic_trace(model)
    # An odd size that was not traced: no shape is baked in.
    for batch in (images(), images(65, height=97)):
        with torch.no_grad():
            expected = model(torch.from_numpy(batch))
            assert torch.equal(traced(torch.from_numpy(batch)), expected)
            assert torch.equal(scripted(torch.from_numpy(batch)), expected)


def test_a_changed_network_is_seen_in_its_trace():
    """The comparison above can fail: another GeM exponent changes the output."""
    model = build(small_checkpoint("resnest14"))
    traced = torch.fx.symbolic_trace(build(small_checkpoint("resnest14")))
    with torch.no_grad():
        model.pool.p += 0.1
        assert not torch.equal(traced(torch.from_numpy(images())), model(torch.from_numpy(images())))


def test_batch_norm_is_fused_by_fx():
    """The most common use of `torch.fx`: a ResNeSt with its BatchNorms fused returns the same descriptors."""
    from torch.fx.experimental.optimization import fuse

    model = build(small_checkpoint("resnest14"))
    fused = fuse(model)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules()) == 0
    with torch.no_grad():
        difference = fused(torch.from_numpy(images())) - model(torch.from_numpy(images()))
    assert difference.abs().max() < FEATURES


@pytest.mark.parametrize("name", SMALL_SPECS)
def test_half_precision(name):
    """`nn.Module.half` works on every module; no attribute hides it."""
    model = build(small_checkpoint(name))
    for module in model.modules():
        module.half()
    assert {tensor.dtype for tensor in model.state_dict().values()} <= {torch.float16, torch.int64}


@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnest14", "res2net50"])
def test_half_precision_computes_nearly_the_same_map(name):
    """Up to the last map: GeM's power of random features may exceed 65504, the largest float16."""
    backbone = build(small_checkpoint(name)).backbone
    with torch.no_grad():
        whole = backbone(torch.from_numpy(images())).flatten(1)
        halved = backbone.half()(torch.from_numpy(images()).half()).float().flatten(1)
    assert torch.nn.functional.cosine_similarity(whole, halved).min() > 0.999


@pytest.mark.parametrize("name", ["resnet18", "resnest14", "res2net50", "seresnext26t_32x4d"])
def test_feature_maps(name):
    """The same maps in both frameworks; the last one is what the pooling reads."""
    checkpoint = small_checkpoint(name)
    ours = torch_models.create.create_model(checkpoint.spec, checkpoint.weights)
    theirs = paddle_models.create.create_model(checkpoint.spec, checkpoint.weights)
    batch = images(65, height=97)
    with torch.no_grad():
        maps = {layer: value.numpy() for layer, value in ours.features(torch.from_numpy(batch)).items()}
    others = theirs.features(paddle.to_tensor(batch))
    assert list(maps) == list(others) == ["layer1", "layer2", "layer3", "layer4"]
    backbone = checkpoint.spec.backbone
    for (layer, value), planes, stride in zip(maps.items(), backbone.planes, (4, 8, 16, 32), strict=True):
        assert value.shape == (2, planes * backbone.expansion, -(-97 // stride), -(-65 // stride)), layer
        np.testing.assert_allclose(others[layer].numpy(), value, rtol=0, atol=FEATURES * np.abs(value).max())
    with torch.no_grad():
        assert torch.equal(ours.backbone(torch.from_numpy(batch)), torch.from_numpy(maps["layer4"]))


def test_feature_maps_stop_behind_the_last_layer_asked_for():
    model = build(small_checkpoint("resnet18"))
    model.backbone.layer4.register_forward_hook(lambda *_: pytest.fail("layer4 was computed"))
    maps = model.features(torch.from_numpy(images()), layers=["layer3", "layer1"])
    assert list(maps) == ["layer1", "layer3"]
    with pytest.raises(SpecError, match=r"unknown layer 'layer5'; expected some of layer1, layer2, layer3, layer4"):
        model.features(torch.from_numpy(images()), layers=("layer5",))


@pytest.mark.parametrize("headless", [False, True])
def test_first_weights_are_the_same_in_both(headless):
    spec = get_spec("resnest14_narrow")
    spec = spec.headless() if headless else spec
    ours, again, theirs = (
        package.create.create_model(spec, seed=seed)
        for package, seed in ((torch_models, 5), (torch_models, 6), (paddle_models, 5))
    )
    with torch.no_grad():
        outputs = [model(torch.from_numpy(images())).numpy() for model in (ours, again)]
    with paddle.no_grad():
        other = theirs(paddle.to_tensor(images())).numpy()
    assert outputs[0].shape == (2, spec.embedding_size)
    np.testing.assert_allclose(other, outputs[0], rtol=0, atol=FEATURES)
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3, "another seed, the same weights"
