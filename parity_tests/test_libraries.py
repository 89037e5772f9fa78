"""Every variant compared with the published networks that it equals: tensors, shapes, and features at full size."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from export.parity.probes import picture
from parity_tests.libraries import published
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import Checkpoint
from zoo.preprocess import normalise
from zoo.published.names import naming
from zoo.specs import ModelSpec
from zoo.variants import SPECS, VARIANTS
from zoo.weights import parameter_shapes, parameters

FLOAT32, FLOAT64 = 1e-5, 1e-12
"""Absolute, on features scaled to a maximum of 1. Measured at most 2e-6 and 4e-15, on ResNeSt-200 of PaddleClas, which adds the
splits in another order; there each side's float32 is itself 2e-6 from float64."""
SIZES = ((64, 64), (65, 49))
PAIRS = [(name, source) for name, row in VARIANTS.items() for source in row.equals]
LARGE = 50e6
"""Networks with more parameters are compared only with --run-slow; smaller ones have the same blocks."""


def features_spec(name: str) -> ModelSpec:
    """Only a variant's backbone and average pooling, not normalised."""
    spec = SPECS[name].headless().resized(64)
    return replace(spec, head=replace(spec.head, l2=False))


def ours(checkpoint: Checkpoint, framework: str, dtype: type):
    """Our network in float32 or float64."""
    package = importlib.import_module(f"{framework}_models.checkpoint")
    model = in_precision(package.build(checkpoint), framework, dtype)
    package.load_weights(model, {n: v.astype(dtype) for n, v in checkpoint.weights.items()})
    return model


def in_precision(model, framework: str, dtype: type):
    if dtype == np.float64:
        model = model.double() if framework == "torch" else model.to(dtype="float64")
    model.eval()
    return model


def forward(model, framework: str, images: np.ndarray) -> np.ndarray:
    library = importlib.import_module(framework)
    tensor = library.from_numpy(images) if framework == "torch" else library.to_tensor(images)
    with library.no_grad():
        return model(tensor).numpy()


def _cases() -> list:
    marks = {name: [pytest.mark.slow] if parameters(SPECS[name].headless()) > LARGE else [] for name in VARIANTS}
    return [pytest.param(n, s, marks=marks[n], id=f"{n}={s.replace(' ', ':')}") for n, s in PAIRS]


@pytest.mark.parametrize(("name", "source"), _cases())
def test_a_variant_equals_what_it_says(name, source):
    spec, theirs = features_spec(name), published(source)
    names = naming(theirs.shapes(), spec.backbone, parameter_shapes(spec)).canonical
    shapes = theirs.shapes()
    assert {ours: shapes[theirs] for theirs, ours in names.items()} == parameter_shapes(spec)
    assert len(set(names.values())) == len(names)
    checkpoint = random_checkpoint(spec, seed=13)
    random = np.random.default_rng(17)
    images = [normalise(picture(random, *size)[None], spec.preprocess) for size in SIZES]
    for dtype, tolerance in ((np.float32, FLOAT32), (np.float64, FLOAT64))[: 1 + theirs.in_float64]:
        in_precision(theirs.model, theirs.framework, dtype)
        theirs.load({t: checkpoint.weights[o].astype(dtype) for t, o in names.items()})
        model = ours(checkpoint, theirs.framework, dtype)
        for image in images if theirs.odd_sizes else images[:1]:
            found, expected = (forward(m, theirs.framework, image.astype(dtype)) for m in (model, theirs.model))
            largest = np.abs(expected).max()
            assert 0.1 < largest < 30, "the network is not one that could be trained"
            np.testing.assert_allclose(
                found / largest, expected / largest, rtol=0, atol=tolerance, err_msg=f"{dtype} {image.shape}"
            )


@pytest.mark.parametrize("name", ["resnest50", "resnest50_fast_1s1x64d"])
def test_resnest_pools_in_layer4_also_at_stride_1(name):
    """The original code makes the last layer with a stride of 1, as fast-reid does with its copy of that code."""
    theirs = published(f"ResNeSt {name}")
    original, spec = theirs.model, features_spec(name)
    block = type(original.layer4[0])
    original.inplanes = spec.backbone.planes[2] * block.expansion
    original.layer4 = original._make_layer(block, spec.backbone.planes[3], 3, stride=1, norm_layer=torch.nn.BatchNorm2d)
    checkpoint = random_checkpoint(replace(spec, backbone=replace(spec.backbone, last_stride=1)), seed=13)
    theirs.load({name.removeprefix("backbone."): value for name, value in checkpoint.weights.items()})
    image = normalise(picture(np.random.default_rng(17), 64, 64)[None], spec.preprocess)
    expected = forward(in_precision(original, "torch", np.float32), "torch", image)
    for framework in ("torch", "paddle"):
        found = forward(ours(checkpoint, framework, np.float32), framework, image)
        np.testing.assert_allclose(
            found / np.abs(expected).max(), expected / np.abs(expected).max(), rtol=0, atol=FLOAT32, err_msg=framework
        )
