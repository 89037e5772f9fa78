"""Descriptors on disk: one model's output for one set of images, with ids and provenance."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from zoo.errors import DataError, OutputError
from zoo.files import new_file

FORMAT = "landmark-zoo embeddings 1"
TENSOR = "descriptors"


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One descriptor per image.

    On disk it is one safetensors file: the tensor `descriptors`, and in the header's metadata the ids and the source as
    JSON. Nothing in it is executed when it is read.

    Attributes:
        ids: n image ids, all different, without white space (a predictions file separates them by spaces).
        descriptors: float32 [n, D], finite; row i belongs to `ids[i]`.
        source: where they come from, as JSON values: model, framework, image size.

    Raises:
        DataError: on construction, if one of these conditions is violated.
    """

    ids: tuple[str, ...]
    descriptors: np.ndarray
    source: dict

    def __post_init__(self) -> None:
        _validate(self.ids, self.descriptors)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file atomically.

        Raises:
            DataError: the source contains something that JSON cannot represent.
            OutputError: the disk is full or the folder cannot be written.
        """
        try:
            source = json.dumps(self.source)
        except (TypeError, ValueError) as error:
            raise DataError(f"the source of embeddings for {path} must be JSON values: {error}.") from error
        metadata = {"format": FORMAT, "ids": json.dumps(self.ids), "source": source}
        with new_file(path) as partial:
            try:
                # safetensors writes the raw buffer, so a transposed or sliced view is copied first.
                save_file({TENSOR: np.ascontiguousarray(self.descriptors)}, partial, metadata)
            except SafetensorError as error:
                raise OutputError(
                    f"{path} could not be written: {error}. Free some disk space and try again."
                ) from error

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or not an embeddings file, or its ids and descriptors do not match.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise DataError(f"expected the format {FORMAT!r}, found {metadata.get('format')!r}")
                return cls(
                    tuple(json.loads(metadata["ids"])), file.get_tensor(TENSOR), dict(json.loads(metadata["source"]))
                )
        except (OSError, SafetensorError, DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} is not a readable embeddings file: {error}. "
                "Make it again with python -m torch_models.embed or python -m paddle_models.embed."
            ) from error


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


def _validate(ids: tuple[str, ...], descriptors: np.ndarray) -> None:
    if descriptors.ndim != 2 or descriptors.dtype != np.float32:
        raise DataError(f"expected float32 descriptors [n, D], found {descriptors.dtype} {list(descriptors.shape)}")
    if len(ids) != len(descriptors):
        raise DataError(f"expected one id per descriptor, found {len(ids)} ids and {len(descriptors)} descriptors")
    seen: set[str] = set()
    for name in ids:
        if not isinstance(name, str) or not name or name.split() != [name]:
            raise DataError(f"expected ids that are text without white space, found {name!r}")
        if name in seen:
            raise DataError(f"expected ids that are all different, found {name!r} twice")
        seen.add(name)
    finite = np.isfinite(descriptors).all(axis=1)
    if not finite.all():
        first = ids[int(finite.argmin())]
        raise DataError(
            f"expected finite descriptors, found NaN or infinity in {np.sum(~finite)} of them, first in {first!r}"
        )
