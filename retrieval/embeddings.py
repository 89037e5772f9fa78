"""Descriptors on disk: one model's output for one set of images, with ids and provenance."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np

from retrieval.ids import Ids, require_ids
from zoo.errors import DataError
from zoo.tensors import read_header, read_tensors, write_tensors
from zoo.text import parse_json

FORMAT = "landmark-zoo embeddings 2"
OLD_FORMAT = "landmark-zoo embeddings 1"
"""Its ids are a JSON list in the header; it is still read."""
DESCRIPTORS, IDS = "descriptors", "ids"
_BLOCK = 4096
_ADVICE = "Embed the images again with `python -m export.embed`."


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One descriptor per image.

    On disk it is one safetensors file with two tensors, `descriptors` and `ids` (uint8: the ids in UTF-8, each followed by a
    line feed); the header has the source as JSON. The number of images has no limit. Nothing is executed on reading.

    Attributes:
        ids: n image ids, all different, without white space (a predictions file separates them by spaces).
        descriptors: float32 [n, D], finite, no row all zeros; row i belongs to `ids[i]`.
        source: where they come from, as JSON values: model, framework, image size.

    Raises:
        DataError: on construction, if one of these conditions is violated.
    """

    ids: tuple[str, ...]
    descriptors: np.ndarray
    source: dict

    def __post_init__(self) -> None:
        _validate(self.ids, self.descriptors)

    @property
    def rows(self) -> np.ndarray:
        """The descriptors, as in a `retrieval.store.Store`."""
        return self.descriptors

    @property
    def squared_norms(self) -> np.ndarray:
        """‖x‖² of each row, float64 [n]."""
        return self._squared_norms

    @cached_property
    def _squared_norms(self) -> np.ndarray:
        return squared_norms(self.descriptors)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file atomically.

        Raises:
            DataError: the source contains something that JSON cannot represent.
            OutputError: the disk is full or the folder cannot be written.
        """
        try:
            source = json.dumps(self.source, allow_nan=False)
            parse_json(source, "the source")  # as `load` will
        except (DataError, RecursionError, TypeError, ValueError) as error:
            raise DataError(f"the source of embeddings for {path} must be JSON values: {error}.") from error
        # Not in the header: safetensors limits it to 100 MB, which is about four million ids.
        ids = np.frombuffer(Ids.of(self.ids).text, np.uint8)
        write_tensors(path, {DESCRIPTORS: self.descriptors, IDS: ids}, {"format": FORMAT, "source": source})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or not an embeddings file, or its ids and descriptors do not match.
        """
        header = read_header(path, error=DataError, advice=_ADVICE)
        found = header.get("format")
        if found not in (FORMAT, OLD_FORMAT):
            raise DataError(f"{path}: expected the format {FORMAT!r}, found {found!r}. {_ADVICE}")
        names = [DESCRIPTORS, IDS] if found == FORMAT else [DESCRIPTORS]
        tensors, _ = read_tensors(path, names, error=DataError, advice=_ADVICE)
        try:
            ids = _split(tensors[IDS]) if found == FORMAT else parse_json(header["ids"], "its ids")
            source = parse_json(header["source"], "its source")
            if not isinstance(ids, list) or not isinstance(source, dict):
                raise DataError(
                    f"expected ids as a list and a source as a mapping, found {type(ids).__name__} and {type(source).__name__}"
                )
            return cls(tuple(ids), tensors[DESCRIPTORS], source)
        except (DataError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a usable embeddings file: {error}. {_ADVICE}") from error


def concatenate(members: Sequence[Embeddings]) -> Embeddings:
    """Concatenates the descriptors of several models, [n, D1 + D2 + …], without weights or normalisation.

    The source of the result is `{"members": [source, …]}`.

    Raises:
        DataError: there are no members, or they do not have the same ids in the same order.
    """
    if not members:
        raise DataError("there are no embeddings to concatenate; expected at least one.")
    for (a, first), (b, second) in pairwise(enumerate(members)):
        if len(first.ids) != len(second.ids):
            raise DataError(
                f"embeddings {a} hold {len(first.ids)} images and embeddings {b} {len(second.ids)}; expected the same."
            )
        for row, (expected, found) in enumerate(zip(first.ids, second.ids, strict=True)):
            if expected != found:
                raise DataError(
                    f"row {row} is {expected!r} in embeddings {a} and {found!r} in embeddings {b}; "
                    "expected the same ids in the same order. Embed the same list of images with each model."
                )
    return Embeddings(
        members[0].ids,
        np.concatenate([member.descriptors for member in members], axis=1),
        {"members": [member.source for member in members]},
    )


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """‖x‖² of each row [N, D], computed in float64 in blocks: float64 [N]."""
    norms = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        norms[start : start + _BLOCK] = np.einsum("nd,nd->n", block, block)
    return norms


def require_descriptors(rows: np.ndarray, names: Sequence[object]) -> None:
    """Raises `DataError` unless `rows` is float32 [N, D], finite, and no row is all zeros.

    Args:
        rows: the descriptors.
        names: what the N rows belong to, for the message.
    """
    if rows.ndim != 2 or rows.dtype != np.float32 or not rows.shape[1]:
        raise DataError(f"expected float32 descriptors [n, D], found {rows.dtype} {list(rows.shape)}")
    for problem, is_wrong in (("NaN or infinity", _not_finite), ("zeros only", _empty)):
        # In blocks: the answer for every number at once would take a quarter of the descriptors' memory.
        wrong = [is_wrong(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)]
        if found := int(sum(map(np.sum, wrong))):
            first = names[int(np.concatenate(wrong).argmax())]
            raise DataError(
                f"expected finite descriptors other than 0, found {problem} in {found:,} of them, first in {first!r}"
            )


def _not_finite(rows: np.ndarray) -> np.ndarray:
    return ~np.isfinite(rows).all(axis=1)


def _empty(rows: np.ndarray) -> np.ndarray:
    return ~rows.any(axis=1)


def _validate(ids: tuple[str, ...], descriptors: np.ndarray) -> None:
    if descriptors.ndim == 2 and len(ids) != len(descriptors):
        raise DataError(f"expected one id per descriptor, found {len(ids)} ids and {len(descriptors)} descriptors")
    require_ids(ids)
    require_descriptors(descriptors, ids)


def _split(lines: np.ndarray) -> list[str]:
    """The ids of a file, each of which ends with a line feed."""
    if lines.dtype != np.uint8 or lines.ndim != 1:
        raise DataError(f"expected ids as uint8 [bytes], found {lines.dtype} {list(lines.shape)}")
    return list(Ids(lines.tobytes()))
