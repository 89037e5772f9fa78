"""`keras.applications`' ResNets, as Keras saves them: their features are Keras' own in both frameworks and in TensorFlow 2.2."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from export import tf22
from parity_tests.random_weights import random_checkpoint
from parity_tests.test_libraries import forward, ours
from zoo.checkpoint import Checkpoint, save_checkpoint
from zoo.errors import CheckpointError
from zoo.import_weights import import_weights
from zoo.preprocess import normalise
from zoo.signature import BATCH_SIGNATURE, DESCRIPTOR, batch_input
from zoo.specs import ModelSpec
from zoo.variants import get_spec

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64
FEATURES = 1e-5
"""On features scaled to a maximum of 1, and on descriptors of unit norm. Measured: 2e-6."""
FILES = ("model.h5", "model.keras", "model.weights.h5", "tuned.keras")


@dataclass(frozen=True)
class Saved:
    """A network that Keras saved.

    Attributes:
        spec: what it is imported as, for images of 64 × 64.
        folder: its files.
        pixels: float32 [N, 64, 64, 3], 0 to 255.
        features: Keras' own, float32 [N, C].
    """

    spec: ModelSpec
    folder: Path
    pixels: np.ndarray
    features: np.ndarray

    def imported(self, name: str, **changes: bool) -> Checkpoint:
        return import_weights(self.folder / name, self.spec, headless=True, **changes)


@pytest.fixture(scope="module", params=["ResNet50", "ResNet50V2"])
def saved(request, tmp_path_factory) -> Saved:
    folder, spec = tmp_path_factory.mktemp("keras"), get_spec(f"keras.applications {request.param}")
    np.savez(folder / "weights.npz", **random_checkpoint(spec.headless().resized(SIZE), seed=3).weights)
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    pixels[1:] = pixels[1:].mean((1, 2), keepdims=True) + 0.2 * (pixels[1:] - 128)
    np.save(folder / "pixels.npy", pixels)
    words = [request.param, folder / "weights.npz", folder / "pixels.npy", folder]
    done = subprocess.run(
        [sys.executable, "-m", "parity_tests.keras_worker", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Saved(spec.resized(SIZE), folder, pixels, np.load(folder / "features.npy"))


def largest_difference(saved: Saved, checkpoint: Checkpoint, framework: str) -> float:
    """Of a feature from Keras' own, both divided by the largest feature."""
    plain = dataclasses.replace(checkpoint.spec, head=dataclasses.replace(checkpoint.spec.head, l2=False))
    model = ours(dataclasses.replace(checkpoint, spec=plain), framework, np.float32)
    found = forward(model, framework, normalise(saved.pixels, plain.preprocess))
    largest = np.abs(saved.features).max()
    assert np.std(saved.features, axis=0).max() > 0.01 * largest, "all images have the same features"
    return float(np.abs(found - saved.features).max() / largest)


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("name", FILES)
def test_features_are_keras_own(saved, name, framework):
    assert largest_difference(saved, saved.imported(name), framework) < FEATURES


@pytest.mark.slow  # small networks of both kinds: test_matrix.py
def test_descriptors_in_tensorflow_22_are_keras_own(saved, tf22_python, tmp_path):
    save_checkpoint(tmp_path / "model.safetensors", saved.imported("model.h5"))
    command = [sys.executable, "export/to_savedmodel.py", "--ckpt", str(tmp_path / "model.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    np.savez(tmp_path / "batch.npz", **{f"all/{batch_input(SIZE)}": saved.pixels})
    outputs = {"outputs": tmp_path / "all.npz", "signature": BATCH_SIGNATURE}
    call = {"saved_model": done.stdout.splitlines()[-1], "inputs": tmp_path / "batch.npz", **outputs}
    tf22.run_calls([call], python=tf22_python)
    expected = saved.features / np.linalg.norm(saved.features, axis=1, keepdims=True)
    found = np.load(tmp_path / "all.npz")[f"all/{DESCRIPTOR}"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=FEATURES)


def test_all_files_hold_the_same_network(saved):
    first, *others = (saved.imported(name) for name in FILES)
    for other in others:
        assert other.spec == first.spec
        assert all(np.array_equal(other.weights[name], value) for name, value in first.weights.items())


def test_a_configuration_with_another_stride_is_refused(saved):
    """The tensors of the network with the same names would fit; what the file states does not."""
    other = dataclasses.replace(saved.spec, backbone=dataclasses.replace(saved.spec.backbone, last_stride=1))
    with pytest.raises(CheckpointError, match=r"states strides of \[2, 2\] for conv\d_block\d_\d_conv"):
        import_weights(saved.folder / "model.keras", other, headless=True)
