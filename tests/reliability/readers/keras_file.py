"""Weights that Keras saved: HDF5 files, and zips of one with a configuration (`zoo.published.keras_files`)."""

import io
import json
import struct
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


def _attributes(file: h5py.File) -> None:
    """More than the latest format keeps in a group's header."""
    for number in range(9):
        file.attrs[f"attribute{number}"] = "text"


def groups(*levels: tuple[bytes, list[int]]) -> bytes:
    """A file of groups that lie in each other, in the format that Keras writes.

    Args:
        levels: of each group the bytes with its members' names, and where in them each name begins. All of its members are the next
            group; those of the last are the root.
    """
    raw = bytearray(b"\x89HDF\r\n\x1a\n" + bytes(5) + b"\x08\x08" + bytes(49) + struct.pack("<Q", 96) + bytes(24))
    for number, (heap, starts) in enumerate(levels):
        # The group's header, its heap, its tree of one leaf, and the leaf.
        header = len(raw)
        tree, leaf = header + 72 + len(heap), header + 120 + len(heap)
        following = leaf + 8 + 40 * len(starts) if number + 1 < len(levels) else 96
        raw += struct.pack("<BxHIIxxxx", 1, 1, 1, 24) + struct.pack("<HHxxxxQQ", 17, 16, tree, header + 40)
        raw += struct.pack("<4sxxxxQQQ", b"HEAP", len(heap), 0, header + 72) + heap
        raw += struct.pack("<4sBBHQQQQQ", b"TREE", 0, 0, 1, 2**64 - 1, 2**64 - 1, 0, leaf, 0)
        raw += struct.pack("<4sBxH", b"SNOD", 1, len(starts))
        raw += b"".join(struct.pack("<QQ24x", start, following) for start in starts)
    return bytes(raw)


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
    "many_attributes_in_a_heap": hdf5(_attributes, libver="latest"),
    "long_name": hdf5(lambda file: file.create_group("a" * 600)),
    "long_path": hdf5(lambda file: file.create_group("/".join(["a" * 100] * 6))),
    "one_name_many_times": groups((b"a\0", [0] * 100), (b"", [])),
    "heap_without_end": groups((b"a" * 1000, [0] * 7)),
    "names_behind_the_heap": groups((b"a\0", [2, 2**64 - 1])),
    "without_names": hdf5(lambda file: file.create_dataset("conv2d/vars/0", data=np.ones((1, 1, 3, 2), "f4"))),
    "zip_compressed": keras_zip(_NUMBERED, _CONFIG, zipfile.ZIP_DEFLATED),
    "config_deep": keras_zip(_NAMED, b"[" * 2000),
    "config_epsilon": keras_zip(_NAMED, _CONFIG.replace(b"0.001", b"1e9")),
}
"""By name; those that begin with `sound` are read."""
_NESTED = groups((b"outer\0", [0]), (b"inner\0", [0]), (b"", []))
"""Sound but for the last group, which is empty, as the network is."""


class Large(bytes):
    """A file of megabytes, of which a failing test prints the size."""

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"


@st.composite
def _many_names(draw: st.DrawFn) -> bytes:
    """Groups in which names are long, have no end, or are of one object; the largest have 5 MB."""
    levels = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from((b"a", b"\xf0\x9f\x97\xbd"))) * draw(st.sampled_from((1, 120, 250_000)))
        count, step = draw(st.sampled_from((1, 400, 60_000))), draw(st.sampled_from((0, 4)))
        levels.append((name + draw(st.sampled_from((b"", b"\0"))), [step * number for number in range(count)]))
    return Large(groups(*levels))


READER = Reader(
    "Keras' weights (.h5, .keras)",
    st.one_of(
        damaged(_NAMED),
        damaged(_NUMBERED),
        damaged(_LATEST),
        damaged(keras_zip(_NUMBERED, _CONFIG)),
        damaged(_CONFIG).map(lambda config: keras_zip(_NUMBERED, config)),
        damaged(_NESTED),
        _many_names(),
    ),
    read,
    place="model.keras",
    messages={
        "cut": "cut off or damaged: 8 bytes at",
        "group_in_itself": "the object at 1,136 has two names",
        "two_names": "the object at 2,168 has two names",
        "link_to_a_name": "links from one name to another",
        "link_to_a_file": "links to other names or files",
        "array_in_another_file": "an array in another file",
        "virtual_array": "an array that is compressed or stored in pieces",
        "compressed": "an array that is compressed or stored in pieces",
        "terabytes": "an array of 4,398,046,511,104 bytes of which 0 were written",
        "many_groups_in_a_heap": "a group whose members are in a form that Keras does not write",
        "many_attributes_in_a_heap": "a group whose attributes are in a form that Keras does not write",
        "long_name": "a name has more than the limit of 500 bytes, or no end",
        "long_path": "504 characters, more than the limit of 500",
        "one_name_many_times": "'a' is twice in it",
        "heap_without_end": "a name has more than the limit of 500 bytes, or no end",
        "names_behind_the_heap": "a name has more than the limit of 500 bytes, or no end",
        "without_names": "it does not say which layer its 'conv2d' is",
        "zip_compressed": "its model.weights.h5 is compressed",
        "config_deep": "it is nested too deeply",
        "config_epsilon": "a BatchNorm with epsilon 1000000000.0",
    },
)
