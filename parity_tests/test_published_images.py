"""Every library's files are imported with the library's own preprocessing of images, whatever its tensors are named."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from parity_tests.libraries import Oracle, published
from zoo.import_weights import import_weights
from zoo.preprocess import normalise
from zoo.specs import PreprocessSpec
from zoo.variants import SPECS, VARIANTS
from zoo.weights import parameters


def _cases() -> dict[tuple[str, str], tuple[str, str]]:
    """The smallest network of each library and kind of block: that is every way in which a library names tensors."""
    smallest = sorted(VARIANTS, key=lambda name: parameters(SPECS[name].headless()), reverse=True)
    return {
        (source.partition(" ")[0], VARIANTS[name].backbone.block): (name, source)
        for name in smallest
        for source in VARIANTS[name].equals
    }


def _written(library: Oracle, folder: Path) -> Path:
    """A file with the network's names and shapes, and random values; names tell the framework."""
    random = np.random.default_rng(0)
    tensors = {
        name: random.uniform(0.5, 1, shape).astype(np.float16) for name, shape in library.shapes().items() if shape
    }
    save_file(tensors, folder / "a.safetensors")
    return folder / "a.safetensors"


def _prepared(source: str, library: Oracle, pixels: np.ndarray) -> np.ndarray:
    """RGB pixels [N, H, W, 3] from 0 to 255 as the library's own code prepares them [N, 3, H, W]."""
    if source.startswith("keras.applications"):
        module = "resnet_v2" if source.endswith("V2") else "resnet"
        prepare = getattr(importlib.import_module("keras").applications, module).preprocess_input
        return prepare(pixels.copy()).transpose(0, 3, 1, 2)
    usual = {"mean": PreprocessSpec().mean, "std": PreprocessSpec().std}
    config = getattr(library.model, "pretrained_cfg", usual) if source.startswith("timm") else usual
    return ((pixels / 255 - config["mean"]) / config["std"]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("name", "source"), [pytest.param(*case, id=case[1]) for case in _cases().values()])
def test_images_are_prepared_as_the_library_does(name, source, tmp_path, capsys):
    library = published(source)
    checkpoint = import_weights(_written(library, tmp_path), SPECS[name], headless=True)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 5, 7, 3)).astype(np.float32)
    found = normalise(pixels, checkpoint.spec.preprocess)
    np.testing.assert_allclose(found, _prepared(source, library, pixels), rtol=0, atol=1e-4)
    own = source.partition(" ")[0] if source.startswith(("keras", "PaddleClas")) or "v2" in source else None
    assert checkpoint.provenance.get("published_by") == own
    assert f"({own or 'the model'}'s" in capsys.readouterr().err
