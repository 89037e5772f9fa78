"""Makes a store (`retrieval.store`) chunk by chunk, in any number of processes on any number of machines at once.

The files are made once at their full size. A finished chunk is flushed to the disk before its number is logged, so that SIGKILL
loses the chunks in work and nothing else, and a store that was continued equals an unbroken one to the bit.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from retrieval.data.csv_tables import write_rows
from retrieval.embeddings import require_descriptors, squared_norms
from retrieval.ids import Ids, require_ids
from retrieval.provenance import difference
from retrieval.store import (
    CHUNKS,
    COMPLETE,
    FORMAT,
    IDS,
    LOG,
    MANIFEST,
    ROWS,
    SQUARED_NORMS,
    UNREADABLE,
    Dtype,
    Finished,
    StoreManifest,
    finished_chunks,
    read_manifest,
)
from zoo.claims import claimed
from zoo.disk import output_errors, require_room
from zoo.errors import DataError, OutputError
from zoo.files import new_file, new_folder, write_json

_HEADER = 4096
"""Bytes before the first row: a page, so that no two chunks share one if their size is a multiple of a page."""
WAIT_SECONDS = 60.0
"""How long a process waits for another one that makes the same store's files; making them takes a moment."""


def make_store(
    folder: Path,
    ids: Sequence[str],
    dimensions: int,
    source: dict,
    changed: str,
    *,
    batch: int,
    chunk: int,
    dtype: Dtype = "float16",
    versions: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> StoreManifest:
    """Makes the files of a store at their full size, or finds them made from the same.

    Args:
        folder: the store.
        ids: the images in the order of the rows.
        dimensions: D.
        source, changed, batch, chunk, dtype, versions: as in `StoreManifest`.
        overwrite: replace a store that was made from something else.

    Raises:
        DataError: an id is repeated or has white space.
        OutputError: there is a store of something else and `overwrite` is off, there is no room for all rows, or the folder
            cannot be written.
    """
    require_ids(ids)
    source = json.loads(json.dumps(source))  # as a manifest that is there will be read
    text = Ids.of(ids).text
    digest = hashlib.sha256(text).hexdigest()
    wanted = StoreManifest(len(ids), dimensions, dtype, batch, chunk, source, changed, digest, dict(versions or {}))
    with claimed(folder, wait=WAIT_SECONDS):
        found = _manifest_of(folder)
        if found is not None and _same(found, wanted):
            return found
        if found is not None and not overwrite:
            raise OutputError(
                f"{folder} is a store of something else: {_difference(found, wanted)}. Choose another --out, or pass --overwrite to "
                "replace it."
            )
        bytes_of_rows = len(ids) * dimensions * np.dtype(dtype).itemsize
        require_room(folder, bytes_of_rows + 8 * len(ids) + len(text), largest=bytes_of_rows)
        with new_folder(folder, overwrite=overwrite) as partial:
            _make_files(partial, wanted, text)
    return wanted


class ChunkWriter:
    """Writes finished chunks into a store; as many processes as wanted may write different chunks at the same time.

    A context manager. The claim on its log keeps a second process of the same name out.

    Args:
        folder: a store that `make_store` made.
        name: of this writer's log, such as "0-of-4".

    Raises:
        OutputError: another process writes under the same name, or the store cannot be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.manifest = folder, read_manifest(folder)
        self._log = folder / CHUNKS / f"{name}{LOG}"

    def __enter__(self) -> Self:
        self._claim = claimed(self._log)
        self._claim.__enter__()
        with output_errors(self.folder):
            self._rows = os.open(self.folder / ROWS, os.O_RDWR)
            self._norms = os.open(self.folder / SQUARED_NORMS, os.O_RDWR)
            self._lines = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            _cut_off_half_a_line(self._lines)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in (self._rows, self._norms, self._lines):
            os.close(handle)
        self._claim.__exit__(None, None, None)

    def write(self, first: int, rows: np.ndarray, names: Sequence[str], readable: np.ndarray) -> None:
        """Writes neighbouring rows of a chunk.

        Args:
            first: number of the first row.
            rows: descriptors float32 [n, D].
            names: ids of the n images, for messages.
            readable: bool [n]; the rows of other images become zeros, infinitely far from everything.

        Raises:
            DataError: a descriptor of a readable image is not finite, all zeros, of another length or too large for the store's
                type.
            OutputError: the disk is full or reports an error.
        """
        if rows.ndim != 2 or rows.shape[1] != self.manifest.dimensions:
            raise DataError(f"a batch has descriptors {list(rows.shape)}; expected [n, {self.manifest.dimensions}]")
        kept = np.flatnonzero(readable)
        require_descriptors(rows[kept], [names[place] for place in kept])
        with np.errstate(over="ignore"):  # its squared norm tells
            stored = np.where(readable[:, None], rows, 0).astype(self.manifest.dtype)
        norms = np.where(readable, squared_norms(stored), np.inf)
        if wrong := [names[place] for place in kept if not 0 < norms[place] < np.inf]:
            raise DataError(
                f"the descriptor of {wrong[0]!r} does not fit into {self.manifest.dtype}: its numbers are too large or too small. "
                "Pass --dtype float32."
            )
        with output_errors(self.folder):
            _write(self._rows, stored, _HEADER + first * stored.strides[0])
            _write(self._norms, norms, _HEADER + first * norms.itemsize)

    def finish(self, chunk: int, unreadable: Mapping[str, str]) -> None:
        """Flushes what was written and logs that a chunk is finished."""
        line = json.dumps(asdict(Finished(chunk, dict(unreadable))), ensure_ascii=True) + "\n"
        with output_errors(self.folder):
            os.fdatasync(self._rows)
            os.fdatasync(self._norms)
            os.write(self._lines, line.encode())
            os.fsync(self._lines)


def complete(folder: Path) -> bool:
    """Marks a store as complete if all its chunks are finished, and says whether they are."""
    manifest = read_manifest(folder)
    done = finished_chunks(folder, manifest)
    if len(done) < manifest.chunks:
        return False
    if not (folder / COMPLETE).exists():
        unreadable = {image_id: why for chunk in sorted(done) for image_id, why in done[chunk].items()}
        if unreadable:
            with new_file(folder / UNREADABLE) as partial:
                write_rows(partial, [("id", "reason"), *unreadable.items()])
        write_json(folder / COMPLETE, {"images": manifest.images, "unreadable": len(unreadable)})
    return True


def _manifest_of(folder: Path) -> StoreManifest | None:
    """The manifest of what is at `folder`; None if nothing is.

    Raises:
        OutputError: something else than a store is there.
    """
    if not folder.exists() or (folder.is_dir() and not (folder / MANIFEST).exists()):
        return None  # a folder with something in it is refused when it is replaced
    try:
        return read_manifest(folder)
    except DataError as error:
        raise OutputError(f"{error} Or choose another --out.") from error


def _same(found: StoreManifest, wanted: StoreManifest) -> bool:
    """Versions do not count: another version of a package computes the same within the tolerances."""
    return replace(found, versions={}) == replace(wanted, versions={})


def _difference(found: StoreManifest, wanted: StoreManifest) -> str:
    """What two manifests differ in, as text."""
    if models := difference(found.source, wanted.source):
        return models
    if found.source.get("data") != wanted.source.get("data") or found.ids_sha256 != wanted.ids_sha256:
        return "other images"
    if found.changed != wanted.changed:
        return "an image was changed since (or the copy of the data set has other times; copy it with `cp -a` or `rsync -a`)"
    for name in ("dimensions", "dtype", "batch", "chunk"):
        if getattr(found, name) != getattr(wanted, name):
            return f"{name} {getattr(found, name)} and {getattr(wanted, name)}"
    return "another description of the model"


def _make_files(folder: Path, manifest: StoreManifest, ids: bytes) -> None:
    (folder / CHUNKS).mkdir()
    (folder / IDS).write_bytes(ids)
    _reserve(folder / ROWS, manifest.dtype, (manifest.images, manifest.dimensions))
    _reserve(folder / SQUARED_NORMS, "float64", (manifest.images,))
    write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def _reserve(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """An `.npy` file of zeros with its room on the disk reserved, so that a full disk is found before the work."""
    header = f"{{'descr': {np.dtype(dtype).str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with open(path, "wb") as file:
        # Format 1.0: the magic, the version, the header's length, and the header, which ends with a line feed.
        file.write(b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little"))
        file.write(header.ljust(_HEADER - 11).encode() + b"\n")
        file.flush()
        os.posix_fallocate(file.fileno(), 0, _HEADER + size)
        os.fsync(file.fileno())


def _write(handle: int, array: np.ndarray, offset: int) -> None:
    """Not through a mapping: two hosts that write into the same page of a network disk would undo each other's bytes."""
    data = memoryview(array.tobytes())
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def _cut_off_half_a_line(handle: int) -> None:
    """A killed process may have left half a line; what follows must not be joined to it."""
    content = os.pread(handle, os.fstat(handle).st_size, 0)
    os.ftruncate(handle, content.rfind(b"\n") + 1)
