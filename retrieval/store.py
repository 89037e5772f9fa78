"""A store: the descriptors of millions of images as a folder of files that are mapped into memory, not read.

| file | holds |
| --- | --- |
| `store.json` | which model made the rows, from which data, in which chunks (`StoreManifest`) |
| `ids.txt` | the ids, a line each, in the order of the rows |
| `rows.npy` | descriptors, float16 or float32 [N, D] |
| `squared_norms.npy` | ‖x‖² of the rows as they are stored, float64 [N]; infinite for an image that could not be read |
| `chunks/*.jsonl` | which chunks are finished, by which process, and which of their images could not be read |
| `complete.json` | how many images there are and how many could not be read; written when all chunks are finished |
| `unreadable.csv` | the images that could not be read, and why; only if there are any |

`retrieval.store_writer` makes it. A row that was rounded to float16 has no unit norm any more, so it is ranked by the Euclidean
distance to what is stored, for which its squared norm is needed. An image that could not be read is infinitely far from everything.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from msgspec import Meta

from retrieval.embeddings import Embeddings, squared_norms
from retrieval.ids import Ids
from zoo.errors import DataError, SpecError
from zoo.inputs import no_file
from zoo.strict import Count, read_fields
from zoo.text import read_json

FORMAT = "landmark-zoo store 1"
MANIFEST, COMPLETE, IDS, ROWS, SQUARED_NORMS, CHUNKS = (
    "store.json", "complete.json", "ids.txt", "rows.npy", "squared_norms.npy", "chunks"
)  # fmt: skip
UNREADABLE, LOG = "unreadable.csv", ".jsonl"
Dtype = Literal["float16", "float32"]
_ADVICE = "Make it again with `landmark-zoo embed`."


class Rows(Protocol):
    """Descriptors that can be searched: a `Store`, or `Embeddings` in memory.

    Attributes:
        ids: N image ids.
        rows: float16 or float32 [N, D].
        squared_norms: float64 [N], ‖x‖² of each row; infinite for an image that could not be read, whose row is zeros.
        source: where they come from (`Embeddings.source`).
    """

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def rows(self) -> np.ndarray: ...
    @property
    def squared_norms(self) -> np.ndarray: ...
    @property
    def source(self) -> dict: ...


@dataclass(frozen=True)
class StoreManifest:
    """What decides the rows of a store.

    Attributes:
        images: N.
        dimensions: D.
        dtype: of the stored rows.
        batch: images per call of the model; another number could change the last digits.
        chunk: images that are finished together.
        source: `Embeddings.source`: the model, its spec, its checkpoint's sha256, the image size, and the data's fingerprint.
        changed: fingerprint of the data with the times of their last changes.
        ids_sha256: of `ids.txt`.
        versions: of the packages that made it.
    """

    images: Annotated[int, Meta(ge=1, le=10**10)]
    dimensions: Count
    dtype: Dtype
    batch: Count
    chunk: Annotated[int, Meta(ge=1, le=2**24)]
    source: dict[str, Any]
    changed: str
    ids_sha256: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def chunks(self) -> int:
        """Number of chunks; the last one may be shorter."""
        return -(-self.images // self.chunk)

    def rows_of(self, chunk: int) -> range:
        """The rows of a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.images))


@dataclass(frozen=True)
class Finished:
    """A line of a log: a finished chunk, and why some of its images could not be read, by id."""

    chunk: Annotated[int, Meta(ge=0, le=10**10)]
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Store:
    """A finished store, opened to be read.

    Attributes:
        path: its folder.
        manifest: what decides its rows.
        ids: N image ids.
        rows: float16 or float32 [N, D], mapped: what is used is read, and the system may drop it again.
        squared_norms: float64 [N].
    """

    path: Path
    manifest: StoreManifest
    ids: Sequence[str]
    rows: np.ndarray
    squared_norms: np.ndarray

    @property
    def source(self) -> dict:
        """Where the rows come from (`Embeddings.source`)."""
        return self.manifest.source

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "Store":
        """A store that `landmark-zoo embed` finished.

        Raises:
            DataError: it is no store, is not finished, or a file of it is missing or has another size.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if not (folder / COMPLETE).is_file():
            left = manifest.chunks - len(finished_chunks(folder, manifest))
            raise DataError(
                f"{folder} is not finished: {left:,} of its {manifest.chunks:,} chunks are missing. Run the `landmark-zoo embed` "
                "command that began it again; it continues there."
            )
        ids = read_ids(folder)
        if hashlib.sha256(ids.text).hexdigest() != manifest.ids_sha256 or len(ids) != manifest.images:
            raise DataError(f"{folder / IDS} is not the list that the store was made with. {_ADVICE}")
        rows = _mapped(folder / ROWS, manifest.dtype, (manifest.images, manifest.dimensions))
        norms = np.array(_mapped(folder / SQUARED_NORMS, "float64", (manifest.images,)))
        if not (norms > 0).all():
            raise DataError(f"{folder / SQUARED_NORMS}: expected positive numbers, found others. {_ADVICE}")
        return cls(folder, manifest, ids, rows, norms)

    @property
    def unreadable(self) -> dict[str, str]:
        """The images that could not be read, by id in the order of the rows, and why."""
        chunks = finished_chunks(self.path, self.manifest)
        return {image_id: why for chunk in sorted(chunks) for image_id, why in chunks[chunk].items()}


def open_rows(path: str | os.PathLike) -> Rows:
    """A store's folder, or an embeddings file.

    Raises:
        DataError: it is neither, or damaged.
    """
    return Store.open(path) if Path(path).is_dir() else Embeddings.load(path)


def in_memory(rows: Rows) -> Embeddings:
    """Descriptors as float32 in memory, without the images that could not be read."""
    kept = np.flatnonzero(np.isfinite(rows.squared_norms))
    return Embeddings(tuple(rows.ids[int(row)] for row in kept), rows.rows[kept].astype(np.float32), rows.source)


@dataclass(frozen=True, eq=False)
class Selection:
    """A part of other `Rows`, with the same attributes."""

    ids: Sequence[str]
    rows: np.ndarray
    squared_norms: np.ndarray
    source: dict


def chosen(rows: Rows, places: np.ndarray) -> Selection:
    """Some images of others, in the order of `places`, which are row numbers."""
    ids = tuple(rows.ids[int(place)] for place in places)
    return Selection(ids, rows.rows[places], rows.squared_norms[places], rows.source)


def columns(rows: Rows, start: int, stop: int) -> Selection:
    """The entries from `start` to `stop` of each descriptor, such as one member's part of an ensemble's; nothing is copied."""
    part = rows.rows[:, start:stop]
    norms = squared_norms(part)
    norms[~np.isfinite(rows.squared_norms)] = np.inf
    return Selection(rows.ids, part, norms, rows.source)


def read_manifest(folder: Path) -> StoreManifest:
    """A store's manifest, whether or not it is finished.

    Raises:
        DataError: the folder is no store, or its manifest is damaged.
    """
    if not folder.is_dir():
        why = no_file(folder) or "is a file"
        raise DataError(f"{folder} {why}; expected the folder of a store. {_ADVICE}")
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is not a store: it holds no {MANIFEST}. {_ADVICE}")
    values = read_json(folder / MANIFEST, advice=_ADVICE)
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise DataError(f"{folder / MANIFEST}: expected the format {FORMAT!r}. {_ADVICE}")
    try:
        return read_fields(StoreManifest, values, "manifest")
    except SpecError as error:
        raise DataError(f"{folder / MANIFEST} is not a readable manifest: {error}. {_ADVICE}") from error


def read_ids(folder: Path) -> Ids:
    """The ids of a store.

    Raises:
        DataError: the list is missing or damaged.
    """
    path = folder / IDS
    try:
        return Ids(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. {_ADVICE}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}. {_ADVICE}") from error


def finished_chunks(folder: Path, manifest: StoreManifest) -> dict[int, dict[str, str]]:
    """The finished chunks by number, and why some of their images could not be read, by id.

    A line that was cut off by a killed process is left out: its chunk counts as unfinished.
    """
    found: dict[int, dict[str, str]] = {}
    for log in sorted((folder / CHUNKS).glob(f"*{LOG}")):
        for line in log.read_bytes().split(b"\n")[:-1]:
            try:
                entry = read_fields(Finished, json.loads(line), log.name)
            except (SpecError, ValueError, RecursionError):
                continue
            if entry.chunk < manifest.chunks:
                found[entry.chunk] = entry.unreadable
    return found


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds for broken bytes
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}. {_ADVICE}") from error
    if array.dtype != dtype or array.shape != shape:
        raise DataError(f"{path}: expected {dtype} {list(shape)}, found {array.dtype} {list(array.shape)}. {_ADVICE}")
    return array
