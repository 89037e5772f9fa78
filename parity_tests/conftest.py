"""Fixtures of the parity tests."""

import numpy as np
import pytest

from export.parity.probes import pixel_batches
from parity_tests import small_models
from zoo.checkpoint import Checkpoint
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec


@pytest.fixture(params=small_models.SMALL_SPECS)
def small_name(request: pytest.FixtureRequest) -> str:
    """Each member of `SMALL_SPECS` in turn."""
    return request.param


@pytest.fixture
def small_checkpoint(small_name: str) -> Checkpoint:
    """Its weights."""
    return small_models.small_checkpoint(small_name)


@pytest.fixture(scope="session")
def network_inputs() -> list[np.ndarray]:
    """Normalised batches float32 [N, 3, H, W] of several batch sizes and even and odd heights and widths."""
    return [
        normalise(pixels, PreprocessSpec()) for size in (64, 97) for pixels in pixel_batches(size, seed=11).values()
    ]
