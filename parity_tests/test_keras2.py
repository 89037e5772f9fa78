"""Files of Keras 2, written by the one in TensorFlow 2.2: small ResNets of `tf.keras.applications` have Keras' own features."""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from parity_tests.test_keras import FEATURES, SIZE, Saved, largest_difference
from zoo.variants import get_spec

WORKER = Path(__file__).resolve().with_name("keras2_worker.py")
FILES = ("model.h5", "weights.h5", "tuned.h5")


@pytest.fixture(scope="module", params=["v1", "v2"])
def saved(request, tf22_python, tmp_path_factory) -> Saved:
    folder, spec = tmp_path_factory.mktemp("keras2"), get_spec(f"resnet50_{request.param}")
    backbone = dataclasses.replace(spec.backbone, depths=(2, 2, 2, 2), planes=(8, 16, 24, 32))
    spec = dataclasses.replace(spec, backbone=backbone).headless().resized(SIZE)
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    np.save(folder / "pixels.npy", pixels)
    command = [tf22_python, WORKER, request.param, folder / "pixels.npy", folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return Saved(spec, folder, pixels, np.load(folder / "features.npy"))


@pytest.mark.parametrize("name", FILES)
def test_features_are_those_of_keras_2(saved, name):
    assert largest_difference(saved, saved.imported(name), "torch") < FEATURES
