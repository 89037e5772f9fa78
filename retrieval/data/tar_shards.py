"""Reads images in place from the `.tar` files that Google Landmarks v2 is published as, without unpacking them.

One pass over the headers finds where each image lies; it is then read with one `pread`. The index takes 24 bytes per image.
Layout: https://github.com/cvdfoundation/google-landmark; format: POSIX.1-1988 (ustar), with the long names of GNU and POSIX.1-2001.
"""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from retrieval.data.images import UnreadableImageError
from zoo.errors import DataError
from zoo.inputs import require_file
from zoo.limits import IMAGE_BYTES, TAR_NAME

BLOCK = 512
_IMAGE = re.compile(rb"(?:.*/)?([0-9a-f]{16})\.jpg", re.DOTALL)
_FILES = (b"0", b"\0", b"7")
"""Types of a regular file's header."""
_LONG_NAME, _EXTENDED = b"L", b"x"
"""Types of a header whose content describes the next one, by GNU and by POSIX."""
_PATH, _SIZE = (
    re.compile(rb"^\d+ " + record + rb"\n", re.MULTILINE) for record in (rb"path=([^\n]*)", rb"size=(\d{1,19})")
)
"""Records of an extended header."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_AT_ONCE = 16
"""Tars that are indexed at the same time: on a network disk each header is a round trip."""
_AGAIN = (
    "Download it again (https://github.com/cvdfoundation/google-landmark), or compare its md5 with the published one."
)
_DELAY = 2
"""Seconds before a progress bar appears."""


@dataclass(frozen=True)
class _Member:
    """A file in a tar: its name, and where its content lies."""

    name: bytes
    offset: int
    size: int


class TarImages:
    """The images of a folder's tars, as an `ImageSource`.

    Args:
        tars: at least one; their members are `<id>.jpg`, in any folders. Other members are ignored.
        progress: show a progress bar if indexing takes long.

    Raises:
        DataError: a file is no tar, compressed, or cut short; or two members have the same id.
    """

    def __init__(self, tars: Sequence[Path], *, progress: bool = True) -> None:
        self._tars = tuple(tars)
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            found, title = pool.map(_index, self._tars), f"indexing {self._tars[0].parent.name}"
            parts = list(tqdm(found, title, len(self._tars), unit="tar", delay=_DELAY, disable=not progress))
        finally:
            pool.shutdown(cancel_futures=True)
        ids, offsets, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
        numbers = np.repeat(np.arange(len(parts), dtype=np.uint32), [len(part[0]) for part in parts])
        order = np.argsort(ids, kind="stable")
        self._ids, self._tar, self._offset, self._size = (column[order] for column in (ids, numbers, offsets, sizes))
        self._require_once()

    def read(self, image_id: str) -> bytes:
        """The bytes of an image's file.

        Raises:
            UnreadableImageError: no tar holds it, or it has been changed since it was indexed.
        """
        row = self._row(image_id)
        if row is None:
            raise UnreadableImageError(self.place(image_id), "no such member of the .tar files")
        size = int(self._size[row])
        if size > IMAGE_BYTES:
            raise UnreadableImageError(self.place(image_id), f"{size:,} bytes, more than the limit of {IMAGE_BYTES:,}")
        try:
            data = _read_at(self._tars[self._tar[row]], size, int(self._offset[row]))
        except OSError as error:
            raise UnreadableImageError(self.place(image_id), error.strerror or str(error)) from error
        if len(data) < size:
            raise UnreadableImageError(self.place(image_id), "the .tar file has become shorter since it was indexed")
        return data

    def place(self, image_id: str) -> str:
        """`<tar>:<member>` for messages."""
        row = self._row(image_id)
        if row is None:
            return f"{self._tars[0].parent / '*.tar'}:{image_id}.jpg"
        return f"{self._tars[self._tar[row]]}:{self._name(row)}"

    def size(self, image_id: str) -> int | None:
        """Size of an image's file in bytes; None if there is none."""
        row = self._row(image_id)
        return None if row is None else int(self._size[row])

    def changed(self, image_id: str) -> int | None:
        """When the image's tar was last changed, in nanoseconds; None if there is no such image."""
        row = self._row(image_id)
        return None if row is None else self._tars[self._tar[row]].stat().st_mtime_ns

    def _row(self, image_id: str) -> int | None:
        wanted = np.uint64(int(image_id, 16))
        row = int(np.searchsorted(self._ids, wanted))
        return row if row < len(self._ids) and self._ids[row] == wanted else None

    def _name(self, row: int) -> str:
        """A member's name as its header has it, which cuts one of more than 256 bytes."""
        try:
            header = _read_at(self._tars[self._tar[row]], BLOCK, int(self._offset[row]) - BLOCK)
        except OSError:
            header = b""
        return os.fsdecode(_short_name(header)) or f"{int(self._ids[row]):016x}.jpg"

    def _require_once(self) -> None:
        twice = np.flatnonzero(self._ids[1:] == self._ids[:-1])
        if not len(twice):
            return
        first, second = (f"{self._tars[self._tar[row]]}:{self._name(row)}" for row in (twice[0], twice[0] + 1))
        raise DataError(
            f"{first} and {second} are the same id; expected every image once ({len(twice):,} are there more than once). "
            "Remove the tar that does not belong to this split."
        )


def _read_at(path: Path, size: int, offset: int) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.pread(handle, size, offset)
    finally:
        os.close(handle)


def _index(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids uint64, offsets int64 and sizes int64 of a tar's images, in its order."""
    require_file(path, "a .tar of images", DataError, _AGAIN)
    rows = []
    with open(path, "rb") as file:
        for member in _members(file, path):
            if match := _IMAGE.fullmatch(member.name):
                rows.append((int(match[1], 16), member.offset, member.size))
    ids, offsets, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(ids, np.uint64), np.array(offsets, np.int64), np.array(sizes, np.int64)


def _members(file: BinaryIO, path: Path) -> Iterator[_Member]:
    """The regular files of a tar.

    Raises:
        DataError: it is no tar, or cut short.
    """
    handle, end, position = file.fileno(), os.fstat(file.fileno()).st_size, 0
    long_name, long_size = b"", None
    while True:
        header = os.pread(handle, BLOCK, position)
        if len(header) < BLOCK:
            raise DataError(f"{path} is cut short: it ends at {end:,} bytes, without the mark of a tar's end. {_AGAIN}")
        if not any(header):
            return
        if (size := _size_of(header)) is None:
            raise DataError(_no_header(path, header, position))
        kind, start = header[156:157], position + BLOCK
        size = long_size if long_size is not None and kind in _FILES else size
        if start + size > end:
            raise DataError(
                f"{path} is cut short: {os.fsdecode(_short_name(header))!r} needs {start + size:,} bytes, and it has {end:,}. {_AGAIN}"
            )
        if kind in (_LONG_NAME, _EXTENDED):
            content = os.pread(handle, min(size, TAR_NAME), start)
            if kind == _LONG_NAME:
                long_name = content.rstrip(b"\0")
            elif path_record := _PATH.search(content):
                long_name = path_record[1]
            if kind == _EXTENDED and (size_record := _SIZE.search(content)):
                long_size = int(size_record[1])
        else:
            if kind in _FILES:
                yield _Member(long_name or _short_name(header), start, size)
            long_name, long_size = b"", None
        position = start + -(-size // BLOCK) * BLOCK


def _short_name(header: bytes) -> bytes:
    name, prefix = header[:100].partition(b"\0")[0], b""
    if header[257:265] == b"ustar\x0000":  # GNU's headers have something else there
        prefix = header[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


def _size_of(header: bytes) -> int | None:
    """Bytes of a member's content; None if this is no header: its checksum or its numbers are wrong."""
    size, checksum = _number(header[124:136]), _number(header[148:156])
    found = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    return size if size is not None and checksum == found else None


def _number(field: bytes) -> int | None:
    """A number of a header: octal digits, or, for 8 GiB and more, GNU's binary with the first bit set."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8) if digits.isdigit() or not digits else None
    except ValueError:  # an 8 or a 9
        return None


def _no_header(path: Path, header: bytes, position: int) -> str:
    if position:
        return (
            f"{path} is damaged: expected the header of a member at byte {position:,}, found something else. {_AGAIN}"
        )
    for start, name in _COMPRESSED.items():
        if header.startswith(start):
            return f"{path} is compressed with {name}; expected a plain tar, which images can be read from in place. Decompress it."
    return f"{path} is no tar: its first 512 bytes are no header of a member. {_AGAIN}"
