"""An independent converter agrees: onnx2tf and our own writer turn a normal form into the same network.

The normal form is not a private format: it contains only what TensorFlow has operators for, so a published converter can be
used as well; only the speed of our graph is lost.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.embedder import call_batch
from export.parity.probes import pixel_batches
from export.writer.convert import save_normal_form
from parity_tests.small_models import FAMILIES, SMALL_SPECS, in_normal_form
from zoo.signature import batch_input
from zoo.tolerances import TOLERANCES, compare

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = {"resnest50": "paddle", "neck_bn_bgr": "torch"}
"""Split attention, and BGR channels; from both frameworks."""
BATCHES = pixel_batches(64)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with each network's normal form, our SavedModel, and onnx2tf's descriptors."""
    folder = tmp_path_factory.mktemp("onnx2tf")
    np.savez(folder / "pixels.npz", **BATCHES)
    words = [folder / "pixels.npz"]
    for name, framework in MEMBERS.items():
        onnx.save(in_normal_form(FAMILIES.get(name, name), framework), folder / f"{name}.onnx")
        save_normal_form(folder / f"{name}.onnx", folder / name)
        words += [folder / f"{name}.onnx", folder / f"{name}.npz"]
    command = [sys.executable, "-m", "parity_tests.onnx2tf_worker", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", MEMBERS)
def test_onnx2tf_makes_the_same_network_of_a_normal_form(name, made):
    spec = SMALL_SPECS[FAMILIES.get(name, name)].preprocess
    with np.load(made / f"{name}.npz", allow_pickle=False) as theirs:
        assert set(theirs.files) == set(BATCHES)
        for key, pixels in BATCHES.items():
            ours = call_batch(made / name, {batch_input(spec.size, spec.resize): pixels})
            assert compare(ours, theirs[key]).within(TOLERANCES["normal form → savedmodel"]), key
            # Different pictures have different descriptors, so the comparison is meaningful.
            assert len(ours) == 1 or np.abs(ours[0] - ours[1]).max() > 1e-3
