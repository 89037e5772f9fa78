"""Descriptors → PCA-whitening for `python -m export.ensemble --whitening`.

Example:
    python -m retrieval.whitening --embeddings index.safetensors --dimensions 512 --out whitening.safetensors

Fitted by faiss on a set's descriptors, as in Jégou and Chum, "Negative evidences and co-occurrences in image retrieval: the
benefit of PCA and whitening" (ECCV 2012): the mean is subtracted, the directions of largest variance are kept, and each is divided by
the square root of its variance.
"""

import argparse
from pathlib import Path

import numpy as np

from retrieval.embeddings import Embeddings
from zoo.command import run
from zoo.errors import DataError
from zoo.tensors import read_tensors, write_tensors


def fit(descriptors: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean float32 [D] and matrix float32 [D, K] of the whitening (x - mean) @ matrix.

    Args:
        descriptors: float32 [N, D], N at least D.
        dimensions: K, at most D.

    Raises:
        DataError: fewer descriptors than their length, or more dimensions than their length.
    """
    import faiss  # here and not above: reading a whitening needs none of it

    count, length = descriptors.shape
    if count < length or not 0 < dimensions <= length:
        raise DataError(
            f"{count} descriptors of {length} numbers cannot be whitened to {dimensions} dimensions: expected at least "
            f"{length} descriptors and 1 to {length} dimensions. Embed more images, or keep fewer dimensions."
        )
    pca = faiss.PCAMatrix(length, dimensions, -0.5)
    pca.train(np.ascontiguousarray(descriptors, np.float32))
    matrix = faiss.vector_to_array(pca.A).reshape(dimensions, length).T
    # faiss sums squares without dividing by their number: divide by the number of descriptors that it used.
    seen = min(count, pca.max_points_per_d * length)
    return faiss.vector_to_array(pca.mean), np.ascontiguousarray(matrix * np.float32(np.sqrt(seen)))


def read_whitening(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean float32 [D] and matrix float32 [D, K] that this command wrote.

    Raises:
        DataError: the file is missing, or holds something else.
    """
    advice = "Make a whitening with `python -m retrieval.whitening`."
    arrays, _ = read_tensors(path, ("mean", "matrix"), error=DataError, advice=advice)
    mean, matrix = arrays["mean"], arrays["matrix"]
    if mean.ndim != 1 or matrix.ndim != 2 or len(mean) != len(matrix) or {mean.dtype, matrix.dtype} != {np.dtype("f4")}:
        raise DataError(
            f"{path}: expected float32 mean [D] and matrix [D, K], found {mean.dtype} {list(mean.shape)} and "
            f"{matrix.dtype} {list(matrix.shape)}. {advice}"
        )
    return mean, matrix


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--embeddings", required=True, type=Path, help="embeddings by `export.embed` from the ensemble to whiten"
    )
    parser.add_argument("--dimensions", required=True, type=int, help="length of a whitened descriptor")
    parser.add_argument("--out", required=True, type=Path, help="the whitening to write (.safetensors)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    mean, matrix = fit(Embeddings.load(arguments.embeddings).descriptors, arguments.dimensions)
    write_tensors(arguments.out, {"mean": mean, "matrix": matrix})
    print(arguments.out)


if __name__ == "__main__":
    run(main)
