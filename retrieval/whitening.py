"""Descriptors → PCA-whitening for `python -m export.ensemble --whitening`.

Example:
    python -m retrieval.whitening --embeddings train_store --dimensions 512 --out whitening.safetensors

As in Jégou and Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening" (ECCV 2012), the mean
is subtracted, the directions of largest variance are kept, and each is divided by the square root of its variance. Directions of small
variance hold more noise than landmarks, and dividing by almost nothing makes them as important as the others. So a multiple of the kept
directions' mean variance, the shrinkage, is added to each variance first.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from retrieval.embeddings import squared_norms
from retrieval.store import Rows, Selection, open_rows
from zoo.arguments import given_path, ranged
from zoo.command import run
from zoo.disk import require_room
from zoo.errors import DataError, SpecError
from zoo.files import output_file
from zoo.strict import Count, NonNegative, require
from zoo.tensors import read_tensors, write_tensors
from zoo.text import parse_json

FORMAT = "landmark-zoo whitening 1"
SHRINKAGE = 1.0
"""The default. docs/retrieval.md has what other values give."""
_BLOCK = 4096
_ADVICE = "Make a whitening with `python -m retrieval.whitening`."


class Whitening(NamedTuple):
    """A fitted whitening: (x - mean) @ matrix, then unit norm.

    Attributes:
        mean: float32 [D].
        matrix: float32 [D, K].
        source: `Embeddings.source` of the descriptors that it was fitted on.
        shrinkage: multiple of the mean variance that was added to each; None in files of earlier versions, which added nothing.
    """

    mean: np.ndarray
    matrix: np.ndarray
    source: dict
    shrinkage: float | None = None

    def apply(self, descriptors: np.ndarray) -> np.ndarray:
        """Whitened descriptors, float32 [N, K] of unit norm.

        Args:
            descriptors: float16 or float32 [N, D].
        """
        whitened = (descriptors.astype(np.float32) - self.mean) @ self.matrix
        return whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def images(self, images: Rows) -> Selection:
        """The same images with whitened descriptors, in memory; one that could not be read stays infinitely far away."""
        rows = self.apply(images.rows)
        return Selection(
            images.ids, rows, np.where(np.isfinite(images.squared_norms), squared_norms(rows), np.inf), images.source
        )


@dataclass(frozen=True, eq=False)
class Directions:
    """The directions in which descriptors vary, from which whitenings to any length and with any shrinkage follow.

    Attributes:
        images: how many descriptors they were found in.
        mean: float64 [D].
        variances: float64 [D], largest first.
        vectors: float64 [D, D], a direction of unit length in each column.
        source: `Embeddings.source` of the descriptors.
    """

    images: int
    mean: np.ndarray
    variances: np.ndarray
    vectors: np.ndarray
    source: dict

    @property
    def vary(self) -> int:
        """In how many directions the descriptors vary: one without variance comes out as a rounding error of the largest one."""
        rounding = np.sqrt(len(self.mean)) * np.finfo(np.float32).eps * self.variances[0]
        return int(np.sum(self.variances > rounding))

    def whitening(self, dimensions: int, shrinkage: float = SHRINKAGE) -> Whitening:
        """The whitening to the `dimensions` directions of largest variance.

        Raises:
            DataError: more dimensions than a descriptor has entries or than directions in which the descriptors vary; or the shrinkage
                is 0 and there are fewer descriptors than entries, whose smallest variances are accidents.
        """
        length = len(self.mean)
        if not 0 < dimensions <= length or (not shrinkage and self.images < length):
            raise DataError(
                f"{self.images} descriptors of {length} numbers cannot be whitened to {dimensions} dimensions: expected 1 to "
                f"{length} dimensions, and without shrinkage at least {length} descriptors. Embed more images, or keep fewer dimensions."
            )
        if dimensions > (vary := self.vary):
            raise DataError(
                f"the descriptors vary in {vary} of {length} directions, so they cannot be whitened to {dimensions} dimensions: the "
                f"others hold nothing. Pass --dimensions {vary} or less."
                if vary
                else f"all {self.images} descriptors are equal, so there is nothing to whiten. Embed other images, or check the model."
            )
        kept = self.variances[:dimensions]
        matrix = self.vectors[:, :dimensions] / np.sqrt(kept + shrinkage * kept.mean())
        return Whitening(
            self.mean.astype(np.float32), np.ascontiguousarray(matrix, np.float32), self.source, float(shrinkage)
        )


def find_directions(rows: Rows) -> Directions:
    """The directions in which descriptors vary.

    The covariance is added up in float64 from products of blocks in float32, so what is needed beside the mapped rows is a block
    and a few matrices [D, D]. Images that could not be read are left out.

    Args:
        rows: descriptors [N, D].

    Raises:
        DataError: there are none, or they are so large that their squares overflow.
    """
    length = rows.rows.shape[1]
    images, total, squares = 0, np.zeros(length), np.zeros((length, length))
    shift = np.zeros(length, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _blocks(rows):
            if not images:
                # Near the mean: sums of squares of values that are far from 0 would lose the variance.
                shift = block.mean(axis=0, dtype=np.float64).astype(np.float32)
            moved = block - shift
            images += len(block)
            total += moved.sum(axis=0, dtype=np.float64)
            squares += moved.T @ moved
    if not images:
        raise DataError("there are no descriptors to fit a whitening on; expected at least 1.")
    if not np.isfinite(squares).all():
        raise DataError(
            "the descriptors hold NaN, or are so large that their squares overflow float32; normalise them."
        )
    mean = total / images
    variances, vectors = np.linalg.eigh(squares / images - np.outer(mean, mean))
    return Directions(images, shift + mean, np.maximum(variances[::-1], 0.0), vectors[:, ::-1], rows.source)


def fit(rows: Rows, dimensions: int, shrinkage: float = SHRINKAGE) -> Whitening:
    """The whitening of descriptors to their `dimensions` directions of largest variance.

    Args:
        rows: descriptors [N, D] of one model.
        dimensions: K, at most D.
        shrinkage: multiple of the kept directions' mean variance that is added to each variance.

    Raises:
        DataError: as `find_directions` and `Directions.whitening`.
    """
    return find_directions(rows).whitening(dimensions, shrinkage)


def _blocks(rows: Rows) -> Iterator[np.ndarray]:
    """The descriptors of images that could be read, float32, in blocks that are not empty."""
    for start in range(0, len(rows.rows), _BLOCK):
        readable = np.isfinite(rows.squared_norms[start : start + _BLOCK])
        if readable.any():
            yield rows.rows[start : start + _BLOCK][readable].astype(np.float32)


def write_whitening(path: str | os.PathLike, whitening: Whitening) -> None:
    """Writes a whitening atomically.

    Raises:
        DataError: a value is not finite.
        OutputError: the disk is full or the folder cannot be written.
    """
    _require_usable(whitening.mean, whitening.matrix, path)
    arrays = {"mean": whitening.mean, "matrix": whitening.matrix}
    header = {"format": FORMAT, "source": json.dumps(whitening.source)}
    if whitening.shrinkage is not None:
        header["shrinkage"] = json.dumps(whitening.shrinkage)
    write_tensors(path, arrays, header)


def read_whitening(path: str | os.PathLike) -> Whitening:
    """The whitening that this command wrote.

    Raises:
        DataError: the file is missing, holds something else or a value that is not finite, or does not say which model's
            descriptors it was fitted on.
    """
    arrays, header = read_tensors(path, ("mean", "matrix"), error=DataError, advice=_ADVICE)
    _require_usable(arrays["mean"], arrays["matrix"], path)
    if header.get("format") != FORMAT or "source" not in header:
        raise DataError(f"{path} does not say which model's descriptors it was fitted on. {_ADVICE}")
    source = parse_json(header["source"], f"{path}: its source", error=DataError, advice=_ADVICE)
    if not isinstance(source, dict):
        raise DataError(f"{path}: expected its source as a mapping, found {type(source).__name__}. {_ADVICE}")
    shrinkage = parse_json(header.get("shrinkage", "null"), f"{path}: its shrinkage", error=DataError, advice=_ADVICE)
    if shrinkage is not None:
        try:
            require(NonNegative, shrinkage, "its shrinkage")
        except SpecError as error:
            raise DataError(f"{path}: {error}. {_ADVICE}") from error
    return Whitening(arrays["mean"], arrays["matrix"], source, shrinkage)


def _require_usable(mean: np.ndarray, matrix: np.ndarray, path: str | os.PathLike) -> None:
    if mean.ndim != 1 or matrix.ndim != 2 or len(mean) != len(matrix) or {mean.dtype, matrix.dtype} != {np.dtype("f4")}:
        raise DataError(
            f"{path}: expected float32 mean [D] and matrix [D, K], found {mean.dtype} {list(mean.shape)} and "
            f"{matrix.dtype} {list(matrix.shape)}. {_ADVICE}"
        )
    if not matrix.size or matrix.shape[1] > matrix.shape[0]:
        raise DataError(f"{path}: expected a matrix [D, K] with K from 1 to D, found {list(matrix.shape)}. {_ADVICE}")
    if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise DataError(f"{path} has values that are NaN or infinite. {_ADVICE}")
    if not matrix.any(axis=0).all():
        raise DataError(f"{path}: column {int((~matrix.any(axis=0)).argmax())} of its matrix is all zeros. {_ADVICE}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--embeddings",
        required=True,
        type=given_path,
        help="a store of the ensemble to whiten, by `export.embed`; best those of the training images",
    )
    parser.add_argument("--dimensions", required=True, type=ranged(Count), help="length of a whitened descriptor")
    parser.add_argument(
        "--shrinkage",
        type=ranged(NonNegative),
        default=SHRINKAGE,
        help="multiple of the mean variance that is added to each; `landmark-zoo tune` chooses; default: %(default)s",
    )
    parser.add_argument("--out", required=True, type=given_path, help="the whitening to write (.safetensors)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    with output_file(arguments.out, [arguments.embeddings]):
        rows = open_rows(arguments.embeddings)
        length = rows.rows.shape[1]
        needed = 4 * length * (arguments.dimensions + 1)
        if arguments.dimensions <= length:  # otherwise `fit` says what is wrong
            require_room(arguments.out, needed, largest=needed)
        write_whitening(arguments.out, fit(rows, arguments.dimensions, arguments.shrinkage))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
