"""A search in parts: processes rank parts of an index, and their results merge to the ranking of the whole.

A part's result is one safetensors file: `rows`, int64 [q, k], and `distances`, float64 [q, k]; its header names the index, the queries and
the part. The merged ranking equals one search's to the last digit, because distances are compared in float64 and then by row.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import numpy as np
from msgspec import Meta

from retrieval.exact import nearest
from retrieval.ids import Ids
from retrieval.ranking import Ranking
from retrieval.searchable import require_searchable
from retrieval.shard import Shard
from retrieval.store import Rows
from zoo.errors import DataError, SpecError
from zoo.strict import read_fields
from zoo.tensors import read_tensors, write_tensors
from zoo.text import parse_json

FORMAT = "landmark-zoo search part 1"
_ADVICE = "Make it again with `landmark-zoo search --shard`."


@dataclass(frozen=True)
class Searched:
    """What a part's result belongs to.

    Attributes:
        index, queries: `fingerprint` of both.
        start, stop: the part's rows of the index.
        images: rows of the whole index.
        k: neighbours per query that were asked for.
    """

    index: str
    queries: str
    start: Annotated[int, Meta(ge=0)]
    stop: Annotated[int, Meta(ge=0)]
    images: Annotated[int, Meta(ge=1)]
    k: Annotated[int, Meta(ge=1)]

    def part(self, rows: range) -> "Searched":
        """The same for some rows of the index."""
        return replace(self, start=rows.start, stop=rows.stop)


@dataclass(frozen=True, eq=False)
class Part:
    """The nearest rows of a part of an index.

    Attributes:
        searched: what was searched.
        rows: int64 [q, m], numbers in the whole index, by (distance, row); m is k, or less if the part has fewer readable images.
        distances: float64 [q, m].
    """

    searched: Searched
    rows: np.ndarray
    distances: np.ndarray


def shard_rows(images: int, shard: Shard) -> range:
    """The rows of a part: contiguous, and as many as in the others, or one more."""
    return range(images * shard.number // shard.parts, images * (shard.number + 1) // shard.parts)


def search_part(index: Rows, queries: Rows, k: int, rows: range | None = None, *, device: str = "cpu") -> Part:
    """The min(k, readable images) nearest rows of a part of the index.

    Args:
        index, queries, k, device: as in `retrieval.exact.search`.
        rows: the part, by default the whole index.

    Raises:
        DataError: as `retrieval.exact.search`.
    """
    require_searchable(index, queries, k)
    rows = range(len(index.ids)) if rows is None else rows
    found = nearest(index, queries, k, rows, device)
    return Part(whole_search(index, queries, k).part(rows), found.rows, found.distances)


def whole_search(index: Rows, queries: Rows, k: int) -> Searched:
    """What the result of a search of the whole index belongs to; all ids and norms are read for it."""
    images = len(index.ids)
    return Searched(fingerprint(index), fingerprint(queries), 0, images, images, k)


def merge(parts: Sequence[Part], index: Rows, queries: Rows) -> Ranking:
    """The ranking of the whole index.

    Args:
        parts: results of all its parts, in any order.
        index, queries: what was searched; their descriptors are not read.

    Raises:
        DataError: a part belongs to another index, to other queries or another k, is missing or is there twice.
    """
    parts = sorted(parts, key=lambda part: part.searched.start)
    _require_all(parts, index, queries)
    rows, distances = (np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("rows", "distances"))
    k = min(parts[0].searched.k, rows.shape[1])
    if len(parts) > 1:
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]  # parts are in the order of their rows
        rows, distances = (np.take_along_axis(values, order, axis=1) for values in (rows, distances))
    return Ranking(queries.ids, index.ids, rows.astype(np.int32), distances.astype(np.float32))


def write_part(path: str | os.PathLike, part: Part) -> None:
    """Writes a part's result atomically.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    header = {"format": FORMAT, "searched": json.dumps(asdict(part.searched))}
    write_tensors(path, {"rows": part.rows, "distances": part.distances}, header)


def read_part(path: str | os.PathLike) -> Part:
    """Reads what `write_part` wrote.

    Raises:
        DataError: the file is missing, damaged or no part's result.
    """
    tensors, header = read_tensors(path, ["rows", "distances"], error=DataError, advice=_ADVICE)
    if header.get("format") != FORMAT:
        raise DataError(f"{path}: expected the format {FORMAT!r}, found {header.get('format')!r}. {_ADVICE}")
    try:
        searched = read_fields(Searched, parse_json(header.get("searched", ""), "its header"), "searched")
        _require_sound(searched, **tensors)
    except (DataError, SpecError) as error:
        raise DataError(f"{path} is not the result of a search: {error}. {_ADVICE}") from error
    return Part(searched, tensors["rows"], tensors["distances"])


def is_result_of(path: str | os.PathLike, searched: Searched) -> bool:
    """Whether a file is the finished result of this very search."""
    try:
        found = read_part(path)
    except DataError:
        return False
    return found.searched == searched


def fingerprint(rows: Rows) -> str:
    """A hash of ids, norms and source: descriptors with the same one are the same, with odds like those of two files of one sha256."""
    ids = (rows.ids if isinstance(rows.ids, Ids) else Ids.of(rows.ids)).text
    made = hashlib.sha256(
        json.dumps([list(rows.rows.shape), str(rows.rows.dtype), rows.source], sort_keys=True).encode()
    )
    made.update(ids)
    made.update(np.ascontiguousarray(rows.squared_norms).data)
    return made.hexdigest()


def _require_sound(searched: Searched, rows: np.ndarray, distances: np.ndarray) -> None:
    if rows.dtype != np.int64 or distances.dtype != np.float64 or rows.ndim != 2 or rows.shape != distances.shape:
        raise DataError(
            f"expected rows int64 and distances float64 [q, k], found {rows.dtype} {list(rows.shape)} and {distances.dtype} "
            f"{list(distances.shape)}"
        )
    if not (searched.start <= searched.stop <= searched.images) or rows.shape[1] > searched.k:
        raise DataError(f"its {rows.shape[1]} neighbours contradict its header, {searched}")
    if rows.size and not (searched.start <= rows.min() and rows.max() < searched.stop):
        raise DataError(f"expected rows from {searched.start:,} to {searched.stop:,}, found others")
    if not np.isfinite(distances).all() or (np.diff(distances, axis=1) < 0).any():
        raise DataError("expected finite distances in ascending order, found others")


def _require_all(parts: Sequence[Part], index: Rows, queries: Rows) -> None:
    if not parts:
        raise DataError("expected the results of a search's parts, found none.")
    whole = (fingerprint(index), fingerprint(queries))
    for part in parts:
        found = (part.searched.index, part.searched.queries)
        for name, expected, own in zip(("index", "queries"), whole, found, strict=True):
            if own != expected:
                raise DataError(
                    f"the part with the rows {part.searched.start:,} to {part.searched.stop:,} was searched in another {name}: "
                    f"its fingerprint is {own[:12]}, and that of --{name} {expected[:12]}. Search the part again."
                )
        if part.searched.k != parts[0].searched.k or len(part.rows) != len(queries.ids):
            raise DataError(
                f"parts of different searches: {parts[0].searched.k} and {part.searched.k} neighbours for {len(part.rows):,} queries."
            )
    end = 0
    for part in parts:
        if part.searched.start != end:
            what = "are missing" if part.searched.start > end else "are there twice"
            first, last = sorted((end, part.searched.start))
            raise DataError(f"the results of the rows {first:,} to {last:,} {what}; expected each part once.")
        end = part.searched.stop
    if end != len(index.ids):
        raise DataError(f"the results of the rows {end:,} to {len(index.ids):,} are missing; expected each part once.")
