"""Small members of every family with weights that nothing can be swapped in, shared by all arrows."""

from dataclasses import replace

import numpy as np
import pytest

from export.probes import pixel_batches
from parity_tests.random_weights import random_checkpoint
from zoo.checkpoint import Checkpoint
from zoo.preprocess import normalise
from zoo.specs import SPECS, BackboneSpec, HeadSpec, ModelSpec, PreprocessSpec

_SMALL = {"depths": (2, 1, 1, 1), "planes": (8, 16, 24, 32), "stem_channels": 24, "stem_width": 8}


def _small(
    name: str, head: HeadSpec | None = None, preprocess: PreprocessSpec | None = None, **changes: object
) -> ModelSpec:
    backbone: BackboneSpec = replace(SPECS[name].backbone, **_SMALL, **changes)
    head = head or HeadSpec(embedding_size=64)
    return ModelSpec(f"{name}_small", backbone, head, preprocess or PreprocessSpec(size=64))


SMALL_SPECS: dict[str, ModelSpec] = {
    "resnet18": _small("resnet18"),
    "resnet50": _small("resnet50"),
    "resnet50_vd": _small("resnet50_vd"),
    "resnext50_vd": _small("resnet50_vd", cardinality=4),
    "resnest50": _small("resnest50"),
    "resnest50_radix1": _small("resnest50", radix=1),
    "resnest50_radix4": _small("resnest50", radix=4),
    "resnest50_cardinality2": _small("resnest50", cardinality=2),
    "resnet18_average_pool": _small("resnet18", HeadSpec(pool="avg", embedding_size=64)),
    "resnet18_no_neck": _small("resnet18", HeadSpec(neck="none", embedding_size=32)),
    "resnet18_neck_bn_bgr": _small(
        "resnet18", HeadSpec(neck="linear_bn", embedding_size=64), PreprocessSpec(size=64, channels="bgr")
    ),
}
"""Shrunk, but with every kind of layer and switch that the spec knows."""


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
