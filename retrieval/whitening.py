"""Descriptors → PCA-whitening for `python -m export.ensemble --whitening`.

Example:
    python -m retrieval.whitening --embeddings index.safetensors --dimensions 512 --out whitening.safetensors

Fitted by faiss on a set's descriptors, as in Jégou and Chum, "Negative evidences and co-occurrences in image retrieval: the
benefit of PCA and whitening" (ECCV 2012): the mean is subtracted, the directions of largest variance are kept, and each is divided by
the square root of its variance.
"""

import argparse
import json
import os
from typing import NamedTuple

import numpy as np

from retrieval.embeddings import Embeddings, require_descriptors
from zoo.arguments import given_path, ranged
from zoo.command import run
from zoo.disk import require_room
from zoo.errors import DataError
from zoo.files import output_file
from zoo.strict import Count
from zoo.tensors import read_tensors, write_tensors
from zoo.text import parse_json

FORMAT = "landmark-zoo whitening 1"
_ADVICE = "Make a whitening with `python -m retrieval.whitening`."


def fit(descriptors: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean float32 [D] and matrix float32 [D, K] of the whitening (x - mean) @ matrix.

    Args:
        descriptors: float32 [N, D], N at least D.
        dimensions: K, at most D.

    Raises:
        DataError: the descriptors are not float32 [N, D], finite and without zero rows, are fewer than their length or so
            large that their squares overflow; more dimensions than their length, or than directions in which they vary.
    """
    import faiss  # here and not above: reading a whitening needs none of it

    require_descriptors(descriptors, range(len(descriptors)))
    count, length = descriptors.shape
    if count < length or not 0 < dimensions <= length:
        raise DataError(
            f"{count} descriptors of {length} numbers cannot be whitened to {dimensions} dimensions: expected at least "
            f"{length} descriptors and 1 to {length} dimensions. Embed more images, or keep fewer dimensions."
        )
    # faiss subtracts the mean from sums in float32, which loses the variance of values that are far from 0.
    mean = descriptors.mean(axis=0, dtype=np.float64).astype(np.float32)
    pca = faiss.PCAMatrix(length, dimensions, -0.5)
    pca.train(np.ascontiguousarray(descriptors - mean))
    variances = faiss.vector_to_array(pca.eigenvalues)
    if not np.isfinite(variances).all():
        raise DataError("the descriptors are so large that their squares overflow float32; normalise them.")
    # A direction without variance comes out as a rounding error of the largest one.
    vary = int(np.sum(variances > np.sqrt(length) * np.finfo(np.float32).eps * variances.max()))
    if dimensions > vary:
        raise DataError(
            f"the descriptors vary in {vary} of {length} directions, so they cannot be whitened to {dimensions} dimensions: a "
            f"variance of 0 would be divided by. Pass --dimensions {vary} or less."
            if vary
            else f"all {count} descriptors are equal, so there is nothing to whiten. Embed other images, or check the model."
        )
    matrix = faiss.vector_to_array(pca.A).reshape(dimensions, length).T
    # faiss sums squares without dividing by their number: divide by the number of descriptors that it used.
    seen = min(count, pca.max_points_per_d * length)
    return mean + faiss.vector_to_array(pca.mean), np.ascontiguousarray(matrix * np.float32(np.sqrt(seen)))


class Whitening(NamedTuple):
    """A fitted whitening.

    Attributes:
        mean: float32 [D].
        matrix: float32 [D, K].
        source: `Embeddings.source` of the descriptors that it was fitted on.
    """

    mean: np.ndarray
    matrix: np.ndarray
    source: dict


def write_whitening(path: str | os.PathLike, whitening: Whitening) -> None:
    """Writes a whitening atomically.

    Raises:
        DataError: a value is not finite.
        OutputError: the disk is full or the folder cannot be written.
    """
    _require_usable(whitening.mean, whitening.matrix, path)
    arrays = {"mean": whitening.mean, "matrix": whitening.matrix}
    write_tensors(path, arrays, {"format": FORMAT, "source": json.dumps(whitening.source)})


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
    return Whitening(arrays["mean"], arrays["matrix"], source)


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
        "--embeddings", required=True, type=given_path, help="embeddings by `export.embed` from the ensemble to whiten"
    )
    parser.add_argument("--dimensions", required=True, type=ranged(Count), help="length of a whitened descriptor")
    parser.add_argument("--out", required=True, type=given_path, help="the whitening to write (.safetensors)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    with output_file(arguments.out, [arguments.embeddings]):
        embeddings = Embeddings.load(arguments.embeddings)
        needed = 4 * embeddings.descriptors.shape[1] * (arguments.dimensions + 1)
        if arguments.dimensions <= embeddings.descriptors.shape[1]:  # otherwise `fit` says what is wrong
            require_room(arguments.out, needed, largest=needed)
        write_whitening(arguments.out, Whitening(*fit(embeddings.descriptors, arguments.dimensions), embeddings.source))
    print(arguments.out)


if __name__ == "__main__":
    run(main)
