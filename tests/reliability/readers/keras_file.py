"""Weights that Keras saved: HDF5 files, and zips of one with a configuration (`zoo.published.keras_files`)."""

import io
import json
import zipfile
from collections.abc import Callable

import h5py
import numpy as np
from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.weights import read

CONFIG = {
    "class_name": "Functional",
    "config": {
        "name": "resnet50",
        "layers": [
            {"class_name": "Conv2D", "config": {"name": "conv1_conv", "kernel_size": [1, 1], "strides": [2, 2]}},
            {"class_name": "BatchNormalization", "config": {"name": "conv1_bn", "epsilon": 0.001}},
        ],
    },
}


def hdf5(fill: Callable[[h5py.File], object], **options: str) -> bytes:
    """The bytes of a file that `fill` has filled."""
    raw = io.BytesIO()
    with h5py.File(raw, "w", **options) as file:
        fill(file)
    return raw.getvalue()


def named(file: h5py.File) -> None:
    """As Keras 2 saves a model: arrays named after their variables, and the configuration."""
    file.attrs["model_config"] = np.bytes_(json.dumps(CONFIG))
    layer = file.create_group("model_weights/conv1_bn")
    layer.attrs["weight_names"] = np.array([b"conv1_bn/moving_variance:0"])
    layer.create_dataset("moving_variance:0", data=np.ones(2, np.float32))


def numbered(file: h5py.File) -> None:
    """As Keras 3 saves weights: numbered arrays, and the names of layers beside them."""
    variables = file.create_group("conv2d/vars")
    variables.attrs["name"] = "conv1_conv"
    variables.create_dataset("0", data=np.ones((1, 1, 3, 2), np.float32))


def keras_zip(weights: bytes, config: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A `.keras` file."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        for name, content in (("config.json", config), ("model.weights.h5", weights)):
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return raw.getvalue()


_NAMED, _NUMBERED, _LATEST = hdf5(named), hdf5(numbered), hdf5(numbered, libver="latest")
_CONFIG = json.dumps(CONFIG).encode()


def _changed(change: Callable[[h5py.File], object]) -> bytes:
    """A sound file, in which something is added that Keras does not write."""

    def fill(file: h5py.File) -> None:
        named(file)
        change(file)

    return hdf5(fill)


def _many(file: h5py.File) -> None:
    for number in range(20):
        file.create_group(f"group{number}")


SPECIMENS = {
    "sound_numbered": _NUMBERED,
    "sound_named": _NAMED,
    "sound_latest_format": _LATEST,
    "sound_zip": keras_zip(_NAMED, _CONFIG),
    "cut": _NUMBERED[: len(_NUMBERED) * 2 // 3],
    "group_in_itself": _changed(lambda file: file.__setitem__("model_weights/inside", file["model_weights"])),
    "two_names": _changed(lambda file: file.__setitem__("again", file["model_weights/conv1_bn"])),
    "link_to_a_name": _changed(lambda file: file.__setitem__("again", h5py.SoftLink("/model_weights"))),
    "link_to_a_file": _changed(lambda file: file.__setitem__("again", h5py.ExternalLink("/etc/passwd", "/"))),
    "array_in_another_file": _changed(
        lambda file: file.create_dataset("passwd", (8,), "u1", external=[("/etc/passwd", 0, 8)])
    ),
    "virtual_array": _changed(
        lambda file: file.create_virtual_dataset("virtual", h5py.VirtualLayout((4,), "f4"), fillvalue=1)
    ),
    "compressed": _changed(lambda file: file.create_dataset("small", data=np.zeros(99, "f4"), compression="gzip")),
    "terabytes": _changed(lambda file: file.create_dataset("vars/1", (2**40,), "f4")),
    "many_groups_in_a_heap": hdf5(_many, libver="latest"),
    "without_names": hdf5(lambda file: file.create_dataset("conv2d/vars/0", data=np.ones((1, 1, 3, 2), "f4"))),
    "zip_compressed": keras_zip(_NUMBERED, _CONFIG, zipfile.ZIP_DEFLATED),
    "config_deep": keras_zip(_NAMED, b"[" * 2000),
    "config_epsilon": keras_zip(_NAMED, _CONFIG.replace(b"0.001", b"1e9")),
}
"""By name; those that begin with `sound` are read."""
READER = Reader(
    "Keras' weights (.h5, .keras)",
    st.one_of(
        damaged(_NAMED),
        damaged(_NUMBERED),
        damaged(_LATEST),
        damaged(keras_zip(_NUMBERED, _CONFIG)),
        damaged(_CONFIG).map(lambda config: keras_zip(_NUMBERED, config)),
    ),
    read,
    place="model.keras",
)
