"""Reads published weights without executing them: PyTorch's and Paddle's state dicts, safetensors, and what Keras saves.

The format is detected from the first bytes (`zoo.published.kinds`), and the framework that laid out the tensors from their names.
PyTorch writes a zip with one pickle and one file per storage. Before version 1.6 it wrote five pickles followed by the storages,
and torchvision's oldest weights still have that format. Paddle writes one pickle of numpy arrays.
`zoo.published.pickles` reads all of these pickles.
"""

import collections
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import CheckpointError
from zoo.inputs import require_file
from zoo.limits import TENSORS, require_at_most
from zoo.published import keras_files, kinds, torch_files
from zoo.published.foreign import foreign_folder
from zoo.published.pickled_values import Opaque
from zoo.published.pickles import read_pickle
from zoo.published.settings import Settings, settings_of
from zoo.published.state_dicts import find_state_dict
from zoo.tensors import read_tensors, read_types, widened

_AGAIN = "Download it again."
_EXPECTED = "a .pth, .pdparams, .safetensors, .h5 or .keras file"
_FLOATS = ("float16", "float32", "float64")
"""Types that can be weights; bfloat16 is widened to float32 when it is read."""


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: the arrays by name, with the dtypes and the layout of the file (`as_float32` reads them); an `Opaque` stands for a
            tensor of a kind that cannot be weights.
        framework: whose layout it is, `torch` or `paddle`; Keras' tensors are read as PyTorch's.
        settings: what the file says of its network beside the tensors.
        strides: {a layer's name: its strides as the file states them}, unchecked; only Keras' configurations do.
    """

    tensors: dict[str, np.ndarray | Opaque]
    framework: str
    settings: Settings = Settings()
    strides: Mapping[str, Any] = MappingProxyType({})


def read_published(path: str | os.PathLike, prefix: str | None = None) -> tuple[dict[str, np.ndarray | Opaque], str]:
    """The tensors and the framework of `read_contents`."""
    return read_contents(path, prefix)[:2]


def read_contents(path: str | os.PathLike, prefix: str | None = None) -> Contents:
    """Reads every tensor of a file under its published name.

    Args:
        path: a state dict, or a training script's checkpoint that contains one.
        prefix: what the user says stands before the names (`zoo.published.state_dicts`).

    Raises:
        CheckpointError: the file is missing, cut off, not a file of weights, or could only be read by executing it.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} {foreign_folder(path)}.")
    require_file(path, _EXPECTED, CheckpointError)
    try:
        kind = kinds.kind_of(path)
        if kind in (kinds.HDF5, kinds.KERAS_ZIP):
            found = keras_files.read_h5(path) if kind == kinds.HDF5 else keras_files.read_zip(path)
            return Contents(found.tensors, "torch", strides=found.strides)
        if kind == kinds.SAFETENSORS:
            tensors, written_by, settings = _read_safetensors(path), "torch", Settings()
        else:
            value, written_by = _read_pickled(path, kind)
            tensors, settings = find_state_dict(value, prefix), settings_of(value)
    except Exception as error:  # zipfile, numpy and struct raise many kinds on damaged files
        message = str(error) if isinstance(error, CheckpointError) else f"it is damaged: {error}. Download it again"
        message = message.removeprefix(f"{path} is ").rstrip(".")
        message = f"it is {message}" if message.startswith("not a readable") else message
        if "cut off" in message and not message.endswith("again"):
            message += f". {_AGAIN.rstrip('.')}"
        raise CheckpointError(f"{path} could not be read: {message}.") from error
    require_at_most(TENSORS, len(tensors), "tensors", path, CheckpointError)
    return Contents(tensors, layout(tensors) or written_by, settings)


def layout(names: Iterable[str]) -> str | None:
    """The framework whose names these are, `torch` or `paddle`; None if they do not tell.

    Paddle keeps a linear layer's weight as [in, out], and names the statistics of BatchNorm `_mean` and `_variance`. Files are
    converted from one framework to the other, so their format does not tell.
    """
    last = collections.Counter(name.rpartition(".")[2] for name in names)
    paddle, torch = last["_mean"] + last["_variance"], last["running_mean"] + last["running_var"]
    # A network may have a buffer of its own with such a name: most names count.
    return None if paddle == torch else "paddle" if paddle > torch else "torch"


def as_float32(name: str, value: np.ndarray | Opaque, framework: str) -> np.ndarray:
    """A tensor as float32. numpy has no bfloat16, so Paddle stores its bits as uint16.

    Raises:
        CheckpointError: its type cannot be weights, or a value is too large for float32.
    """
    if isinstance(value, Opaque):
        raise CheckpointError(
            f"{name} is not readable as weights ({value.name}); expected a tensor of {', '.join(_FLOATS)} or bfloat16"
        )
    if framework == "paddle" and value.dtype == np.uint16:
        return widened(value)
    if value.dtype.name not in _FLOATS:
        raise CheckpointError(
            f"{name} is a tensor of {value.dtype}; expected {', '.join(_FLOATS)} or bfloat16. Quantised weights and integers are "
            "not read: save the model's floating-point weights"
        )
    with np.errstate(over="ignore"):
        converted = value.astype(np.float32, copy=False)
    if converted is not value and not np.isfinite(converted).all() and np.isfinite(value).all():
        raise CheckpointError(f"{name} has values above {np.finfo(np.float32).max:.1e}, the largest of float32")
    return converted


def _read_safetensors(path: Path) -> dict[str, np.ndarray | Opaque]:
    types = read_types(path, advice=_AGAIN)
    narrow = {
        name: kind for name, kind in types.items() if kind.startswith(("F8", "F6", "F4"))
    }  # numpy has none of them
    found: dict[str, np.ndarray | Opaque] = dict(read_tensors(path, set(types) - set(narrow), advice=_AGAIN)[0])
    return found | {name: Opaque(f"a tensor of {kind}") for name, kind in narrow.items()}


def _read_pickled(path: Path, kind: str) -> tuple[Any, str]:
    with open(path, "rb") as file:
        if kind == kinds.TORCH_ZIP:
            return torch_files.read_zip(file), "torch"
        first = read_pickle(file)
        if isinstance(first, int) and first == torch_files.LEGACY_MAGIC:
            return torch_files.read_legacy(file), "torch"
        return first, "paddle"
