"""What is read of Keras' files: layouts, names, strides and epsilons. Whole networks: `parity_tests/test_keras.py`."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.reliability.readers.keras_file import CONFIG, hdf5, keras_zip, named, numbered
from zoo.constants import BATCH_NORM_EPSILON
from zoo.errors import CheckpointError
from zoo.published.files import Contents, read_contents
from zoo.published.keras_names import keras_module
from zoo.variants import get_spec


def contents(folder: Path, fill: Callable[[h5py.File], object]) -> Contents:
    (folder / "a.h5").write_bytes(hdf5(fill))
    return read_contents(folder / "a.h5")


def test_layouts_are_pytorchs(tmp_path):
    kernel, matrix = np.arange(120.0).reshape(2, 3, 4, 5), np.arange(6.0).reshape(2, 3)

    def fill(file: h5py.File) -> None:
        file["conv1_conv/conv1_conv/kernel:0"] = kernel
        file["predictions/predictions/kernel:0"] = matrix

    found = contents(tmp_path, fill).tensors
    assert found["conv1_conv.weight"].shape == (5, 4, 2, 3)
    assert found["conv1_conv.weight"][4, 3, 1, 2] == kernel[1, 2, 3, 4]
    np.testing.assert_array_equal(found["predictions.weight"], matrix.T)


def test_a_network_inside_another_is_a_prefix(tmp_path):
    def fill(file: h5py.File) -> None:
        for place, name in (("layers/functional", "resnet50"), ("layers/functional/layers/conv2d", "conv1_conv")):
            file.create_group(f"{place}/vars").attrs["name"] = name
        file["layers/functional/layers/conv2d/vars/0"] = np.ones((1, 1, 2, 3), np.float32)
        file["layers/functional/layers/conv2d/vars/1"] = np.ones(3, np.float32)
        file["optimizer/vars/0"] = np.ones(3, np.float32)

    assert set(contents(tmp_path, fill).tensors) == {"resnet50.conv1_conv.weight", "resnet50.conv1_conv.bias"}


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_the_stated_epsilon_is_a_part_of_the_variance(tmp_path, epsilon):
    config = json.dumps(CONFIG).replace("0.001", str(epsilon)).encode()
    (tmp_path / "a.keras").write_bytes(keras_zip(hdf5(named), config))
    [variance] = set(read_contents(tmp_path / "a.keras").tensors["conv1_bn.running_var"].tolist())
    assert variance == np.float32(1 + epsilon - BATCH_NORM_EPSILON)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("HDF5_MESSAGES", 10, "header messages, more than the limit of 10"),
        ("HDF5_OBJECTS", 5, "objects, more than the limit of 5"),
        ("HDF5_METADATA", 1000, "names and attributes have more than the limit of 1,000 bytes"),
        ("NAME", 20, "characters, more than the limit of 20"),
    ],
)
def test_what_a_file_has_many_of_is_counted(tmp_path, monkeypatch, limit, value, message):
    monkeypatch.setattr(f"zoo.published.hdf5.{limit}", value)
    with pytest.raises(CheckpointError, match=message):
        contents(tmp_path, named)


def test_without_a_configuration_the_epsilon_is_that_of_keras_applications(tmp_path):
    tiny = np.full(2, 1e-6, np.float32)
    found = contents(tmp_path, lambda file: file.__setitem__("conv1_bn/conv1_bn/moving_variance:0", tiny))
    np.testing.assert_allclose(found.tensors["conv1_bn.running_var"], 1.01e-6, rtol=1e-6)
    assert found.strides == {}


def test_strides_are_those_of_the_configuration(tmp_path):
    (tmp_path / "a.keras").write_bytes(keras_zip(hdf5(numbered), json.dumps(CONFIG).encode()))
    assert read_contents(tmp_path / "a.keras").strides == {"conv1_conv": [2, 2]}


@pytest.mark.parametrize(
    ("model", "layer", "module"),
    [
        ("resnet50_v1", "conv1_conv", "conv1"),
        ("resnet50_v1", "conv3_block1_1_conv", "layer2.0.conv1"),
        ("resnet50_v1", "conv3_block1_0_conv", "layer2.0.downsample.0"),
        ("resnet50_v1", "conv3_block1_0_bn", "layer2.0.downsample.1"),
        ("resnet50_v2", "conv3_block1_0_conv", "layer2.0.downsample"),
        ("resnet50_v2", "conv2_block3_2_conv", "layer1.2.conv2"),
        ("resnet50_v2", "conv2_block3_2_bn", "layer1.2.bn3"),
    ],
)
def test_names_of_layers(model, layer, module):
    assert keras_module(layer, get_spec(model).backbone) == module
