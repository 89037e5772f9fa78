"""PyTorch's two formats: a zip with one pickle and one file per storage, and, before version 1.6, pickles and storages in a row."""

import functools
import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from zoo.errors import CheckpointError
from zoo.limits import AXES, TEXT_BYTES, require_at_most
from zoo.published.pickled_values import Global, Opaque, plain
from zoo.published.pickles import read_pickle
from zoo.tensors import widened

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
BFLOAT16 = "bfloat16"
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
_NO_WEIGHTS = {"ComplexHalfStorage": 4, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16}
_NO_WEIGHTS |= {"QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1}
"""Bytes per value of types that cannot be weights; an old file has no other way to find what comes after them."""


@dataclass(frozen=True)
class _Storage:
    """A flat array, which is read when a tensor needs it; `dtype` names a type that cannot be weights."""

    read: Callable[[], np.ndarray]
    dtype: str | None = None


def _rebuild(
    storage: _Storage,
    offset: int,
    size: tuple,
    stride: tuple,
    _gradient: Any = None,
    _hooks: Any = None,
    bits: Any = None,
) -> np.ndarray | Opaque:
    """A tensor in its storage, after checking that it lies within it. Tensors of one storage share its memory.

    `bits` says whether the values are to be negated or conjugated.
    """
    if not isinstance(storage, _Storage):
        return Opaque("a tensor without data")
    if isinstance(bits, dict) and any(bits.values()):
        return Opaque(f"a tensor stored with the bit {plain(next(iter(bits)))}")
    if storage.dtype is not None:
        return Opaque(f"a tensor of {storage.dtype}")
    flat = storage.read()
    require_at_most(AXES, len(size), "axes of a tensor", "its pickle", CheckpointError)
    if not all(isinstance(number, int) for number in (offset, *size, *stride)):
        raise CheckpointError("a tensor's shape is not made of integers")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    # Strides of 0 could expand a small storage to any size.
    too_many = math.prod(size) > len(flat)
    if too_many and 0 in stride:
        return Opaque(f"a tensor expanded from {len(flat)} values; it must be saved as a copy, `tensor.clone()`")
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(flat)) or too_many:
        raise CheckpointError(f"a tensor of shape {list(size)} lies outside its storage of {len(flat)} values")
    strides = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)


def _rebuild_from_type(function: Any, _kind: Any, arguments: tuple, _state: Any) -> Any:
    """A tensor of a subclass."""
    name = function.name if isinstance(function, Global) else plain(function)
    return _TORCH[name](*arguments) if name in _TORCH else Opaque(name)


_TORCH: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
}


def _storage_type(kind: Any) -> str | None:
    """A numpy dtype or `BFLOAT16`; None for a type that cannot be weights."""
    return _STORAGES.get(_type_name(kind))


def _type_name(kind: Any) -> str:
    return kind.name.rpartition(".")[2] if isinstance(kind, Global) else plain(kind)


def _width(dtype: str) -> int:
    """Bytes per value."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def _values(raw: bytes, dtype: str) -> np.ndarray:
    return widened(np.frombuffer(raw, "<u2")) if dtype == BFLOAT16 else np.frombuffer(raw, dtype)


def read_zip(file: BinaryIO) -> Any:
    """What `torch.save` of version 1.6 or later wrote.

    Raises:
        CheckpointError, zipfile.BadZipFile, ValueError, KeyError: the file is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise CheckpointError(
                "it has two entries of one name, and readers would differ in which one they read. Save it again with torch.save"
            )
        pickled = next(name for name in names if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("/data.pkl")
        order = f"{folder}/byteorder"
        if order in names and _stored(archive, order) != b"little":
            raise CheckpointError("it was written on a big-endian machine; save it again on a little-endian one")
        left = os.fstat(file.fileno()).st_size

        def storage(persistent: Any) -> _Storage:
            nonlocal left
            _, kind, key, _, count = persistent
            dtype, entry = (
                _storage_type(kind),
                archive.getinfo(f"{folder}/data/{key if isinstance(key, str) else None}"),
            )
            if dtype is None:
                return _Storage(lambda: np.empty(0), _type_name(kind))
            if not isinstance(count, int) or entry.file_size != count * _width(dtype):
                raise CheckpointError(
                    f"the storage {key} has {entry.file_size} bytes, expected {plain(count)} × {_width(dtype)}"
                )
            return _Storage(lambda: values(entry.filename, dtype))

        # Many tensors may be views of one storage: it is read once.
        @functools.cache
        def values(name: str, dtype: str) -> np.ndarray:
            nonlocal left
            left -= archive.getinfo(name).file_size
            if left < 0:
                raise CheckpointError("its storages are larger than the file: its entries overlap")
            return _values(_stored(archive, name), dtype)

        require_at_most(TEXT_BYTES, archive.getinfo(pickled).file_size, "bytes", "data.pkl", CheckpointError)
        return read_pickle(io.BytesIO(_stored(archive, pickled)), _TORCH, storage)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry's bytes. torch.save compresses nothing, and what is not compressed is not larger than the file."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
        raise CheckpointError(
            f"its entry {name} is compressed or encrypted, as torch.save writes none; save it again with torch.save"
        )
    return archive.read(entry)


def read_legacy(file: BinaryIO) -> Any:
    """The rest of a file from PyTorch before 1.6, after its magic number. The storages follow the tensors that use them.

    Raises:
        CheckpointError, ValueError, KeyError: the file is damaged.
    """
    read_pickle(file)  # the protocol's version
    read_pickle(file)  # a description of the machine that wrote it
    start = file.tell()
    kinds: dict[str, str] = {}
    refused: dict[str, str] = {}

    def note(persistent: Any) -> _Storage:
        _, kind, key, _, _, view = persistent
        if view is not None:
            raise CheckpointError("it has a storage that is a view of another one")
        dtype, name = _storage_type(kind), _type_name(kind)
        if dtype is None and name not in _NO_WEIGHTS:
            raise CheckpointError(f"it has a tensor of {name}, which is not a type of weights")
        if not isinstance(key, str):
            raise CheckpointError("the key of a storage is not text")
        kinds[key] = dtype or f"V{_NO_WEIGHTS[name]}"
        if dtype is None:
            refused[key] = name
        return _Storage(lambda: np.empty(0))

    # The pickle is read twice: first for the types of the storages, then, when the storages are known, for the tensors.
    read_pickle(file, dict.fromkeys(_TORCH, lambda *_: None), note)
    storages, length = {}, os.fstat(file.fileno()).st_size
    for key in read_pickle(file):
        (count,) = struct.unpack("<q", file.read(8))
        size = count * _width(kinds[key])
        if not 0 <= size <= length - file.tell():
            raise CheckpointError(f"it is cut off in the storage {plain(key)}")
        storages[key] = _values(file.read(size), kinds[key])
    file.seek(start)
    return read_pickle(
        file, _TORCH, lambda persistent: _Storage(lambda: storages[persistent[2]], refused.get(persistent[2]))
    )
