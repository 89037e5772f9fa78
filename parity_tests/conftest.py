"""Small members of every family with weights that nothing can be swapped in, shared by all arrows."""

from dataclasses import replace

import numpy as np
import pytest

from export.probes import pixel_batches
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import Checkpoint
from zoo.preprocess import normalise
from zoo.specs import BackboneSpec, HeadSpec, ModelSpec, PreprocessSpec
from zoo.variants import SPECS, VARIANTS

_HEAD = HeadSpec(embedding_size=64)
_SIZE = PreprocessSpec(size=64)


def shrunk(name: str, head: HeadSpec = _HEAD, preprocess: PreprocessSpec = _SIZE, **changes: object) -> ModelSpec:
    """A variant with an eighth of its planes and a block or two a layer; everything else is the variant's own."""
    backbone: BackboneSpec = SPECS[name].backbone
    # Groups no narrower than two channels: within a narrower one nothing could be swapped.
    cardinality = min(backbone.cardinality, 8)
    small = replace(
        backbone,
        depths=(2, 1, 1, 1) if max(backbone.depths) < 10 else (2, 1, 2, 1),
        planes=(8, 16, 24, 32),
        stem_channels=24,
        stem_width=8,
        base_width=32 if cardinality >= 4 else 64,
        cardinality=cardinality,
    )
    return ModelSpec(f"{name}_small", replace(small, **changes), head, preprocess)


def _with_head(**head: object) -> ModelSpec:
    return shrunk("resnet18", HeadSpec(**{"embedding_size": 64, **head}))


def _families() -> dict[str, str]:
    """The shrunk member that stands for each variant: the first variant that shrinks to the same network."""
    first: dict[BackboneSpec, str] = {}
    return {name: first.setdefault(shrunk(name).backbone, name) for name in VARIANTS}


FAMILIES: dict[str, str] = _families()
HEADS: dict[str, ModelSpec] = {
    "average_pool": _with_head(pool="avg"),
    "max_pool_bn_first": _with_head(pool="max", neck="bn_linear", neck_bias=True),
    "average_and_gem_pool": _with_head(pool="avg_gem", neck="linear_bn", neck_bias=True),
    "fixed_gem_no_neck": _with_head(gem_p_learned=False, neck="none", embedding_size=32),
    "neck_bn_bgr": shrunk(
        "resnet18", HeadSpec(neck="linear_bn", embedding_size=64), PreprocessSpec(size=64, channels="bgr")
    ),
    "bilinear_not_normalised": shrunk(
        "resnet18", HeadSpec(embedding_size=64, l2=False), PreprocessSpec(size=64, resize="bilinear")
    ),
}
SMALL_SPECS: dict[str, ModelSpec] = {name: shrunk(name) for name in dict.fromkeys(FAMILIES.values())} | HEADS
"""Shrunk, and every kind of layer and switch that the specs know is among them."""


@pytest.fixture(params=SMALL_SPECS)
def small_checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """A small member of each family in turn."""
    return random_checkpoint(SMALL_SPECS[request.param], seed=7)


@pytest.fixture(scope="session")
def network_inputs() -> list[np.ndarray]:
    """Normalised batches float32 [N, 3, H, W]: several batch sizes, even and odd heights and widths."""
    return [
        normalise(pixels, PreprocessSpec()) for size in (64, 97) for pixels in pixel_batches(size, seed=11).values()
    ]
