"""Reads published weights without executing them: .pth and .pt, .pdparams, .safetensors.

The format is detected from the first bytes, not from the extension (except for .safetensors). PyTorch writes a zip with
one pickle and one file per storage. Before version 1.6 it wrote five pickles followed by the storages, and
torchvision's oldest weights still have that format. Paddle writes one pickle of numpy arrays. `zoo.published.pickles`
reads all of these pickles.
"""

import functools
import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.errors import CheckpointError
from zoo.published.pickles import Global, read_pickle
from zoo.tensors import read_tensors

_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state", "params", "net")
"""Keys under which training scripts store the tensors; averaged weights come first, as in timm."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


def read_published(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], str]:
    """Reads every tensor of a file under its published name.

    Args:
        path: a state dict, or a training script's checkpoint that contains one.

    Returns:
        The arrays by name, with the dtypes and the layout of the file (bfloat16 in a .pth becomes float32), and the
        framework that wrote it: `torch` or `paddle`. A .safetensors file counts as `torch`.

    Raises:
        CheckpointError: the file is missing, cut off, not a file of weights, or could only be read by executing it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a .pth, .pdparams or .safetensors file")
    if path.suffix.lower() == ".safetensors":
        return read_tensors(path)[0], "torch"
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(0)
            if start.startswith(b"PK"):
                return _tensors(_read_zip(file)), "torch"
            first = read_pickle(file)
            if first == _LEGACY_MAGIC:
                return _tensors(_read_legacy(file)), "torch"
            return _tensors(first), "paddle"
    except Exception as error:  # zipfile, numpy and struct raise many kinds on damaged files
        raise CheckpointError(
            f"{path} could not be read: {error}. Expected a state dict that torch.save or paddle.save wrote. "
            "It may be cut off: download it again, or save its state dict with safetensors and import that file."
        ) from error


def _tensors(value: Any) -> dict[str, np.ndarray]:
    """The state dict in what a file contains, searched for under the keys that training scripts use."""
    if not isinstance(value, dict):
        raise CheckpointError(f"it contains a {type(value).__name__}, not a state dict")
    for key in _NESTED:
        if isinstance(value.get(key), dict) and value[key]:
            return _tensors(value[key])
    found = {}
    for name, item in value.items():
        # Paddle may write a tensor as a pair (name, values).
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            item = item[1]
        if isinstance(item, np.ndarray) and isinstance(name, str):
            found[name] = item
    if not found:
        raise CheckpointError(f"it contains no tensors; its keys are {', '.join(map(str, list(value)[:5])) or 'none'}")
    return found


@dataclass(frozen=True)
class _Storage:
    """A flat array in PyTorch's format, which is read when a tensor needs it."""

    read: Callable[[], np.ndarray]


def _rebuild(storage: _Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """Copies a tensor out of its storage, after checking that the tensor lies within it."""
    flat = storage.read()
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    # Strides of 0 could expand a small storage to any size.
    too_many = math.prod(size) > len(flat)
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(flat)) or too_many:
        raise CheckpointError(f"a tensor of shape {list(size)} lies outside its storage of {len(flat)} values")
    strides = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False).copy()


_TORCH = {
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
}


def _storage_type(kind: Any) -> str:
    name = kind.name.rpartition(".")[2] if isinstance(kind, Global) else ""
    if name not in _STORAGES:
        raise CheckpointError(f"it has a tensor of type {name or kind!r}, which is not a type of weights")
    return _STORAGES[name]


def _width(dtype: str) -> int:
    """Bytes per value."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _values(raw: bytes, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":  # the upper half of a float32's bits
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, dtype)


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if pickled is None:
            raise CheckpointError("the zip contains no data.pkl")
        folder = pickled.removesuffix("/data.pkl")
        order = f"{folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise CheckpointError("it was written on a big-endian machine")

        def storage(persistent: tuple) -> _Storage:
            _, kind, key, _, count = persistent
            dtype, entry = _storage_type(kind), archive.getinfo(f"{folder}/data/{key}")
            expected = count * _width(dtype)
            if entry.file_size != expected:
                raise CheckpointError(f"the storage {key} has {entry.file_size} bytes, expected {expected}")
            return _Storage(lambda: values(entry, dtype))

        # Many tensors may be views of one storage: it is read once.
        @functools.cache
        def values(entry: zipfile.ZipInfo, dtype: str) -> np.ndarray:
            return _values(archive.read(entry), dtype)

        return read_pickle(io.BytesIO(archive.read(pickled)), _TORCH, storage)


def _read_legacy(file: BinaryIO) -> Any:
    """The rest of a file from PyTorch before 1.6, after its magic number. The storages follow the tensors that use them."""
    read_pickle(file)  # the protocol's version
    read_pickle(file)  # a description of the machine that wrote it
    start = file.tell()
    kinds: dict[str, str] = {}

    def note(persistent: tuple) -> _Storage:
        _, kind, key, _, _, view = persistent
        if view is not None:
            raise CheckpointError("it has a storage that is a view of another one")
        kinds[key] = _storage_type(kind)
        return _Storage(lambda: np.empty(0))

    # The pickle is read twice: first for the types of the storages, then, when the storages are known, for the tensors.
    read_pickle(file, dict.fromkeys(_TORCH, lambda *_: None), note)
    storages, length = {}, os.fstat(file.fileno()).st_size
    for key in read_pickle(file):
        (count,) = struct.unpack("<q", file.read(8))
        size = count * _width(kinds[key])
        if not 0 <= size <= length - file.tell():
            raise CheckpointError(f"the storage {key} is cut off")
        storages[key] = _values(file.read(size), kinds[key])
    file.seek(start)
    return read_pickle(file, _TORCH, lambda persistent: _Storage(lambda: storages[persistent[2]]))
