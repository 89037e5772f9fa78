"""How a test reads a file of weights: as the importer does, up to the network."""

from pathlib import Path

import numpy as np

from zoo.errors import CheckpointError
from zoo.import_weights import fitting_models, import_weights
from zoo.published.files import as_float32, read_published
from zoo.variants import get_spec


def read(path: Path) -> None:
    """Reads every tensor, and tries the file as two models."""
    tensors, framework = read_published(path)
    assert framework in ("torch", "paddle")
    for name, value in tensors.items():
        try:
            assert as_float32(name, value, framework).dtype == np.float32
        except CheckpointError:
            continue
    fitting_models(tensors)
    for model, headless in (("resnet10_narrow", True), ("resnet18_paddleclas", False)):
        try:
            made = import_weights(path, get_spec(model), headless=headless)
        except CheckpointError:
            continue
        for name, value in made.weights.items():
            assert np.isfinite(value).all()
            assert not name.endswith(("running_var", "pool.p")) or value.min() >= 0
