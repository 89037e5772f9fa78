"""The project's only reader and writer of safetensors files: named arrays and a header of strings. Nothing is executed."""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zoo.errors import CheckpointError, DataError, ZooError
from zoo.files import new_file, work_folder
from zoo.inputs import require_file
from zoo.limits import TENSORS, TEXT_BYTES, require_at_most
from zoo.text import parse_json

PICKLED_SUFFIXES = {".pth", ".pt", ".pdparams", ".pdopt", ".pkl", ".ckpt", ".bin", ".tar"}
_PICKLED = (
    "It looks like a framework's pickled file, which can execute code when it is loaded, so it was not opened. "
    "`python -m zoo.import_weights` converts published weights to a checkpoint without executing them."
)
_DAMAGED = "Copy it again, or make it again with the command that made it."


class Layout(NamedTuple):
    """What the header of a safetensors file says of a tensor: its type in safetensors' words ("F32"), and its shape."""

    type: str
    shape: tuple[int, ...]


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], header: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file atomically.

    Args:
        path: the file to write.
        tensors: arrays by name; views are copied, because safetensors writes a buffer as it lies in memory.
        header: strings by name. The format limits the header to 100 MB, so what grows with the data belongs in a
            tensor.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    # safetensors writes to a temporary file of its own and renames it: in a folder that is removed with what a killed process left.
    with new_file(path) as partial, work_folder(path) as folder:
        try:
            made = folder / "tensors"
            save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, made, dict(header or {}))
            made.replace(partial)
        except SafetensorError as error:
            number = _system_error(error)
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from error


def read_tensors(
    path: str | os.PathLike,
    names: Iterable[str] | None = None,
    *,
    error: type[ZooError] = CheckpointError,
    advice: str | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and the header of a safetensors file. numpy has no bfloat16, so such a tensor becomes float32, which is exact.

    Args:
        path: the file.
        names: the tensors to read; the others are skipped. By default every tensor is read.
        error: the class of the exception to raise.
        advice: the last sentence of its message: what to do about the file, for example the command that writes it.

    Raises:
        error: the file is missing, pickled, cut off, or its header contradicts its data; or a tensor is missing.
    """
    with _opened(path, error, advice) as file:
        found = list(file.keys())
        wanted = found if names is None else list(names)
        if missing := [name for name in wanted if name not in found]:
            raise error(
                f"{path} has no tensor {missing[0]!r}; it has {', '.join(found[:5]) or 'none'}. {advice or _DAMAGED}"
            )
        halves = _bfloat16(path, [name for name in wanted if file.get_slice(name).get_dtype() == "BF16"])
        tensors = {name: halves[name] if name in halves else file.get_tensor(name) for name in wanted}
        return tensors, file.metadata() or {}


def read_types(
    path: str | os.PathLike, *, error: type[ZooError] = CheckpointError, advice: str | None = None
) -> dict[str, str]:
    """{name: type} of a file's tensors, in safetensors' words ("F32"); no tensor is read. Otherwise as `read_header`."""
    with _opened(path, error, advice) as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def read_layouts(
    path: str | os.PathLike, *, error: type[ZooError] = CheckpointError, advice: str | None = None
) -> tuple[dict[str, Layout], dict[str, str]]:
    """{name: layout} of a file's tensors, and its header; no tensor is read. Otherwise as `read_header`."""
    with _opened(path, error, advice) as file:
        slices = {name: file.get_slice(name) for name in _few(path, file.keys(), error)}
        found = {name: Layout(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
        return found, file.metadata() or {}


def read_rows(
    path: str | os.PathLike,
    rows: Mapping[str, slice],
    *,
    error: type[ZooError] = CheckpointError,
    advice: str | None = None,
) -> dict[str, np.ndarray]:
    """Some rows of tensors; nothing else of the file is read.

    Args:
        path: the file.
        rows: along the first axis, by the tensor's name, without a step; `slice(None)` is the whole tensor, which may
            have no axis. Not for bfloat16, which numpy does not have.
        error, advice: as in `read_tensors`.

    Raises:
        error: as `read_tensors`.
    """
    with _opened(path, error, advice) as file:
        return {
            name: file.get_tensor(name) if place == slice(None) else file.get_slice(name)[place]
            for name, place in rows.items()
        }


def read_header(
    path: str | os.PathLike, *, error: type[ZooError] = CheckpointError, advice: str | None = None
) -> dict[str, str]:
    """The header of a safetensors file; no tensor is read. Arguments and exceptions are those of `read_tensors`."""
    with _opened(path, error, advice) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: str | os.PathLike, error: type[ZooError], advice: str | None) -> Iterator[Any]:
    path = Path(path)
    require_file(path, "a safetensors file", error, advice or "")
    start = b""
    try:
        size, start = path.stat().st_size, _start(path)
        if _pickled(start):
            raise ValueError("it is a pickle or a zip")
        length = int.from_bytes(start[:8], "little")
        if start[8:] == b"{" and length + 8 > size:
            raise ValueError(f"it is cut off: its header has {length:,} bytes, and the whole file {size:,}")
        with safe_open(path, framework="numpy") as file:
            yield file
    # AttributeError: numpy does not have the dtype.
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as failure:
        cause: Exception | str = failure
        pickled = _pickled(start) or (start[8:] != b"{" and path.suffix.lower() in PICKLED_SUFFIXES)
        if isinstance(cause, SafetensorError) and (missing := _missing_bytes(path)):
            more = f"{-missing:,} bytes follow its tensors: it was appended to, or transferred as text"
            cause = f"it is cut off: {missing:,} bytes of its tensors are missing" if missing > 0 else more
        advice = _PICKLED if pickled else advice or _DAMAGED
        raise error(f"{path} is not a readable safetensors file: {cause}. {advice}") from failure


def _few(path: str | os.PathLike, names: list[str], error: type[ZooError]) -> list[str]:
    require_at_most(TENSORS, len(names), "tensors", path, error)
    return names


def _pickled(start: bytes) -> bool:
    """Whether a file starts as a pickle or a zip; a safetensors file may, by chance, have the same first byte."""
    return start[8:] != b"{" and start.startswith((b"\x80", b"PK"))


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(9)


def _header(path: str | os.PathLike) -> tuple[dict[str, Any], int]:
    """The JSON header as it stands, and where the tensors' bytes begin.

    Raises:
        ValueError: it is damaged.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > TEXT_BYTES:
            raise ValueError(f"its header has {length:,} bytes")
        try:
            found = parse_json(file.read(length), "its header")
        except DataError as error:
            raise ValueError(str(error)) from error
    if not isinstance(found, dict):
        raise ValueError("its header is no mapping")
    return found, 8 + length


def _missing_bytes(path: Path) -> int:
    """How many bytes a file lacks of what its header promises, negative if it has more; 0 if the header is damaged, too."""
    try:
        header, start = _header(path)
    except ValueError:
        return 0
    ends = [0]
    for entry in header.values():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if isinstance(offsets, list) and len(offsets) == 2 and isinstance(offsets[1], int):
            ends.append(offsets[1])
    return start + max(ends) - path.stat().st_size


def _bfloat16(path: str | os.PathLike, names: list[str]) -> dict[str, np.ndarray]:
    """float32 arrays of a sound file's bfloat16 tensors."""
    if not names:
        return {}
    found = {}
    header, start = _header(path)
    with open(path, "rb") as file:
        for name in names:
            first, last = header[name]["data_offsets"]
            file.seek(start + first)
            found[name] = widened(np.frombuffer(file.read(last - first), "<u2")).reshape(header[name]["shape"])
    return found


def widened(bits: np.ndarray) -> np.ndarray:
    """float32 values of bfloat16 ones, which are the upper half of their bits; numpy has no bfloat16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _system_error(error: SafetensorError) -> int | None:
    """The operating system's error number, which safetensors keeps only as text: "I/O error: … (os error 28)"."""
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return int(number[1])
    return errno.EIO if "i/o error" in str(error).lower() else None
