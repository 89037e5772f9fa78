"""What BatchNorm's means show of a bottleneck's stride: right or nothing, whatever the pictures were like."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from torch_models.checkpoint import load_weights, read_weights
from torch_models.embedder import Embedder
from zoo.published import stride_evidence
from zoo.published.stride_evidence import stride_place
from zoo.published.strides import say_stride
from zoo.specs import ModelSpec
from zoo.variants import get_spec
from zoo.weights import initial_weights

MODELS = {"3×3": "resnet50", "first 1×1": "resnet50_v1"}
PICTURES = ("noise", "enlarged by 1.5", "enlarged by 4", "sharpened", "sky above")


def small(place: str, depths: tuple[int, ...] = (1, 2, 2, 2)) -> ModelSpec:
    spec = get_spec(MODELS[place])
    backbone = dataclasses.replace(spec.backbone, depths=depths, planes=(8, 64, 96, 128), stem_channels=16)
    return dataclasses.replace(spec, backbone=backbone).headless()


def pictures(kind: str, size: int, seed: int) -> torch.Tensor:
    """float32 [32, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    factor = {"enlarged by 1.5": 1.5, "enlarged by 4": 4}.get(kind, 1)
    images = torch.randn(32, 3, round(size / factor) + 1, round(size / factor) + 1, generator=generator)
    images = interpolate(images, (size, size), mode="bilinear", align_corners=False)
    if kind == "sharpened":
        smooth = avg_pool2d(images, 5, 1, 2)
        images = smooth + 2 * (images - smooth)
    if kind == "sky above":
        images = images + torch.linspace(1.5, -1.5, size)[:, None]
    return images / images.std()


@functools.cache
def trained(place: str, kind: str, size: int, seed: int) -> dict[str, np.ndarray]:
    """Random weights with the statistics of pictures."""
    spec, random = small(place), np.random.default_rng(seed)
    model, weights = Embedder(spec), initial_weights(spec, (), seed=seed)
    for name, value in weights.items():
        if value.ndim == 1 and name.endswith(("weight", "bias")):
            value[:] = (
                random.uniform(0.3, 1.2, value.shape)
                if name.endswith("weight")
                else random.normal(-0.1, 0.3, value.shape)
            )
    load_weights(model, weights)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(pictures(kind, size, seed))
    return read_weights(model)


@pytest.mark.parametrize("place", MODELS)
@pytest.mark.parametrize("kind", PICTURES)
def test_the_means_show_the_place(place, kind):
    for seed in (1, 2, 3):
        weights = trained(place, kind, 64, seed)
        for asked in MODELS:  # what the spec says does not matter
            assert stride_place(weights, small(asked).backbone) == place, seed


def test_one_layer_with_even_maps_is_enough():
    """Images of 88 pixels: the strided blocks read maps of 22, 11 and 6 rows; those of 11 have padding below in either case."""
    for seed in (1, 2):
        assert stride_place(trained("3×3", "noise", 88, seed), small("3×3").backbone) == "3×3"


@pytest.mark.parametrize(
    ("strided", "other", "shown"),
    [
        ((0.3, 0.3), (0.3, 0.3), "first 1×1"),
        ((0.3, 0.2), (0.3, 0.2), "first 1×1"),  # the edges of pictures differ
        ((0.3, 0.0), (0.3, 0.3), "3×3"),
        ((0.3, -0.1), (0.3, 0.2), "3×3"),
        ((0.3, 0.15), (0.3, 0.3), None),
        ((0.3, 0.05), (0.3, 0.05), None),
        ((0.3, -0.15), (0.3, -0.15), None),
        ((0.3, -0.15), (-0.3, -0.15), None),
        ((0.0, 0.0), (0.3, 0.3), None),
        ((np.nan, np.nan), (0.3, 0.3), None),
        ((0.3, 0.0), (np.nan, np.nan), None),
    ],
)
def test_blocks_are_compared_with_those_that_have_no_stride(monkeypatch, strided, other, shown):
    shares = {"backbone.layer4.0": strided, "backbone.layer4.1": other}
    monkeypatch.setattr(
        stride_evidence, "_missing", lambda _, block: (np.array(shares.get(block, (0.0, 0.0))), 1e-6 * np.eye(2))
    )
    assert stride_place({}, small("3×3").backbone) == shown


@pytest.mark.parametrize("size", [68, 96, 100, 104, 136])
def test_the_3x3_is_never_seen_in_a_network_that_has_it_in_the_first(size):
    """Whatever the size of the maps: some of these are odd."""
    for seed in (1, 2):
        assert stride_place(trained("first 1×1", "enlarged by 1.5", size, seed), small("3×3").backbone) != "3×3"


def test_a_layer_without_a_stride_is_not_read():
    weights, backbone = trained("3×3", "noise", 64, 1), small("3×3").backbone
    others = {name: value for name, value in weights.items() if not name.startswith("backbone.layer4")}
    assert stride_place(others, dataclasses.replace(backbone, last_stride=1)) == "3×3"


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, np.nan])
@pytest.mark.parametrize("part", ["", "running_mean", "conv2.weight", "bn1.weight"])
def test_weights_that_no_training_made_show_nothing_wrong(value, part):
    weights = trained("3×3", "noise", 64, 1)
    damaged = {name: np.full_like(old, value) if part in name else old for name, old in weights.items()}
    assert stride_place(damaged, small("3×3").backbone) in (None, "3×3")


def test_a_regression_that_is_nearly_singular_shows_nothing():
    """All kernels alike but for rounding."""
    weights, random = trained("3×3", "noise", 64, 1), np.random.default_rng(0)
    for size in (0.0, 1e-9, 1e-7):
        alike = {
            name: value[:1] + size * random.normal(size=value.shape).astype(np.float32) if "conv2" in name else value
            for name, value in weights.items()
        }
        assert stride_place(alike, small("3×3").backbone) is None


def test_random_statistics_show_nothing():
    weights, random = trained("3×3", "noise", 64, 1), np.random.default_rng(0)
    for _ in range(20):
        made = {name: random.normal(size=value.shape) for name, value in weights.items()}
        assert stride_place(made, small("3×3").backbone) is None


@pytest.mark.parametrize("assumed", MODELS)
@pytest.mark.parametrize("place", MODELS)
def test_an_import_warns_of_the_other_place(capsys, place, assumed):
    noted = say_stride("a.pth", small(assumed), trained(place, "noise", 64, 1))
    said = capsys.readouterr().err
    assert (
        f"assumed, as --model {MODELS[assumed]} has it, that the stride of a block is in its {assumed} convolution"
        in said
    )
    assert noted is not None and noted.endswith("the means of BatchNorm agree") == (assumed == place)
    assert ("warning" in said) == (assumed != place)
    assert (f"pass --model {MODELS[place]}" in said) == (assumed != place)
    assert ("had odd sizes" in said) == (place == "first 1×1" and assumed == "3×3")
