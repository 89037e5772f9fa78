"""Safetensors files: named arrays and a header of strings. Nothing in them is executed. The project's only reader and writer."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zoo.errors import CheckpointError
from zoo.files import new_file

PICKLED_SUFFIXES = {".pth", ".pt", ".pdparams", ".pdopt", ".pkl", ".ckpt", ".bin", ".tar"}
_IO_ERROR = "I/O error"
"""How safetensors' message starts when the operating system refused to write, for example because the disk is full."""


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Writes a safetensors file atomically.

    Args:
        path: the file to write.
        tensors: arrays by name; views are copied, because safetensors writes a buffer as it lies in memory.
        header: strings; together they must stay far below 100 MB, the format's limit.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    with new_file(path) as partial:
        try:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial, dict(header))
        except SafetensorError as error:
            if _IO_ERROR.lower() in str(error).lower() or "os error" in str(error).lower():
                raise OSError(_error_number(str(error)), str(error)) from error
            raise


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every tensor and the header of a safetensors file.

    Raises:
        CheckpointError: the file is missing, pickled, cut off, or its header contradicts its data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}. {_advice(path)}") from error


def read_header(path: str | os.PathLike) -> dict[str, str]:
    """The header of a safetensors file; the tensors are not read.

    Raises:
        CheckpointError: as `read_tensors`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}. {_advice(path)}") from error


def _error_number(message: str) -> int:
    """safetensors keeps the operating system's error only as text: "… (os error 28)"."""
    digits = message.rpartition("os error ")[2].rstrip(") ")
    return int(digits) if digits.isdecimal() else errno.EIO


def _advice(path: Path) -> str:
    if path.suffix.lower() in PICKLED_SUFFIXES:
        return (
            "It looks like a framework's pickled file, which can execute code when it is loaded, so it was not opened. "
            "`python -m zoo.import_weights` converts published weights to a checkpoint without executing them."
        )
    return "It may be cut off or another kind of file: copy it again, or make it again with the command that made it."
