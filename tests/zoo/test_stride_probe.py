"""What an import says of a bottleneck's stride, which no tensor tells, and whether BatchNorm's statistics tell it."""

import dataclasses

import numpy as np
import pytest
import torch

from torch_models.checkpoint import load_weights, read_weights
from torch_models.embedder import Embedder
from zoo import import_weights
from zoo.published.stride_probe import SURE, pictures, stride_evidence
from zoo.specs import ModelSpec
from zoo.variants import Variant, get_spec
from zoo.weights import initial_weights


def small(first: bool) -> ModelSpec:
    spec = get_spec("resnet50_v1" if first else "resnet50")
    backbone = dataclasses.replace(spec.backbone, depths=(1, 1, 1, 1), planes=(8, 64, 96, 128), stem_channels=16)
    return dataclasses.replace(spec, name="small_v1" if first else "small", backbone=backbone).headless()


def trained(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Weights by name without `backbone.`, with the statistics of other pictures than the probe's.

    They are random, but as in trained networks the 3×3 convolutions of some channels blur, and those of others find edges.
    """
    model, weights = Embedder(spec), initial_weights(spec, (), seed=2)
    for name, value in weights.items():
        if name.endswith(".0.conv2.weight"):
            value[::2] = np.abs(value[::2])
            value[1::2] -= value[1::2].mean((2, 3), keepdims=True)
    load_weights(model, weights)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(np.concatenate([pictures(seed) for seed in range(1, 9)])))
    return {name.removeprefix("backbone."): value for name, value in read_weights(model).items()}


@pytest.mark.parametrize("first", [False, True])
def test_the_statistics_tell_the_stride(first):
    weights = trained(small(first))
    for asked in (False, True):  # what the spec says does not matter
        evidence = stride_evidence(weights, small(asked).backbone)
        assert (evidence < -SURE) if first else (evidence > SURE), evidence


@pytest.fixture
def two_variants(monkeypatch):
    specs = {spec.name: spec for spec in (small(False), small(True))}
    monkeypatch.setattr(import_weights, "VARIANTS", {name: Variant(spec.backbone) for name, spec in specs.items()})
    monkeypatch.setattr(import_weights, "SPECS", specs)


@pytest.mark.parametrize(
    ("model_first", "file_first", "verdict"),
    [
        (False, False, "agree"),
        (True, True, "agree"),
        (False, True, "speak for small_v1"),
        (True, False, "speak for small"),
    ],
)
def test_an_import_says_what_it_assumed(two_variants, tmp_path, capsys, model_first, file_first, verdict):
    torch.save(
        {name: torch.from_numpy(value) for name, value in trained(small(file_first)).items()}, tmp_path / "a.pth"
    )
    checkpoint = import_weights.import_weights(tmp_path / "a.pth", small(model_first), headless=True)
    assert f"the statistics of BatchNorm {verdict} (" in capsys.readouterr().err
    place = "first 1×1" if model_first else "3×3"
    assert checkpoint.provenance["assumed"].startswith(f"stride in the {place} convolution of a block; the statistics")


def test_weights_that_overflow_tell_nothing(two_variants, tmp_path, capsys):
    weights = {name: np.full_like(value, 1e11) for name, value in trained(small(False)).items()}
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, tmp_path / "a.pth")
    import_weights.import_weights(tmp_path / "a.pth", small(False), headless=True)
    assert "do not tell" in capsys.readouterr().err
