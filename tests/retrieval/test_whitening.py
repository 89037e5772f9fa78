"""PCA-whitening compared with numpy's eigenvectors, its errors, and its file as read by `export.ensemble`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.whitening import FORMAT, Whitening, fit, read_whitening, write_whitening
from zoo.errors import DataError
from zoo.tensors import write_tensors

ROOT = Path(__file__).resolve().parents[2]


def descriptors(count: int = 500, length: int = 24, seed: int = 0) -> np.ndarray:
    """Unit-norm float32 [count, length], correlated and not centred."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, length)) * np.geomspace(1, 0.1, length) @ random.normal(size=(length, length))
    values += random.normal(size=length)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def oracle(values: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """The same in float64: eigenvectors of the covariance, largest variances first, divided by their square roots."""
    values = values.astype(np.float64)
    centred = values - values.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(values))
    order = np.argsort(variances)[::-1][:dimensions]
    return values.mean(axis=0), vectors[:, order] / np.sqrt(variances[order])


@pytest.mark.parametrize("dimensions", [24, 10, 1])
def test_it_is_numpys(dimensions):
    values = descriptors()
    (mean, matrix), (expected_mean, expected) = fit(values, dimensions), oracle(values, dimensions)
    assert (mean.dtype, matrix.dtype, matrix.shape) == (np.float32, np.float32, (24, dimensions))
    assert matrix.flags.c_contiguous
    np.testing.assert_allclose(mean, expected_mean, rtol=0, atol=1e-6)
    # The sign of an eigenvector is arbitrary.
    signs = np.sign((matrix * expected).sum(axis=0))
    np.testing.assert_allclose(matrix * signs, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("dimensions", [24, 10])
def test_whitened_numbers_are_independent_and_of_variance_one(dimensions):
    values = descriptors()
    mean, matrix = fit(values, dimensions)
    whitened = (values.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(whitened.T @ whitened / len(values), np.eye(dimensions), rtol=0, atol=2e-3)


def test_the_directions_of_most_variance_are_kept():
    values = descriptors()
    (_, few), (_, all_of_them) = fit(values, 5), fit(values, 24)
    np.testing.assert_allclose(np.abs((few * all_of_them[:, :5]).sum(axis=0)), (few**2).sum(axis=0), rtol=1e-4)


def test_a_view_is_fitted_as_it_reads():
    values = descriptors()
    view = np.asfortranarray(np.concatenate([values, values]))[::2]
    assert not view.flags.c_contiguous
    for found, expected in zip(fit(view, 7), fit(np.ascontiguousarray(view), 7), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("count", "dimensions"), [(23, 4), (30, 25), (30, 0), (30, -1)])
def test_what_cannot_be_fitted_is_said(count, dimensions):
    with pytest.raises(DataError, match=f"{count} descriptors of 24 numbers.* {dimensions} dimensions.*Embed more"):
        fit(descriptors(count), dimensions)


def command(*words: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "retrieval.whitening", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_writes_what_the_ensemble_reads(tmp_path):
    values, out = descriptors(), tmp_path / "deep" / "whitening.safetensors"
    ids = tuple(f"{row:016x}" for row in range(len(values)))
    Embeddings(ids, values, {"model": "an ensemble"}).save(tmp_path / "index.safetensors")
    done = command("--embeddings", tmp_path / "index.safetensors", "--dimensions", 10, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    found_mean, found_matrix, source = read_whitening(out)
    assert source == {"model": "an ensemble"}
    mean, matrix = fit(values, 10)
    np.testing.assert_allclose(found_mean, mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found_matrix, matrix, rtol=0, atol=1e-4 * np.abs(matrix).max())

    done = command("--embeddings", tmp_path / "index.safetensors", "--dimensions", 25, "--out", tmp_path / "none")
    assert done.returncode == 2
    assert "error: 500 descriptors of 24 numbers cannot be whitened to 25 dimensions" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_whitening_is_said(tmp_path):
    values = descriptors(5)
    Embeddings(tuple("abcde"), values, {}).save(tmp_path / "index.safetensors")
    (tmp_path / "text").write_text("no tensors at all")
    square = np.eye(3, dtype=np.float32)
    write_tensors(tmp_path / "lengths", {"mean": np.zeros(4, np.float32), "matrix": square})
    write_tensors(tmp_path / "doubles", {"mean": np.zeros(3), "matrix": square})
    write_tensors(tmp_path / "unknown", {"mean": np.zeros(3, np.float32), "matrix": square})
    for name in ("missing", "text", "index.safetensors", "lengths", "doubles", "unknown"):
        with pytest.raises(DataError, match=f"{name}.* .*python -m retrieval.whitening"):
            read_whitening(tmp_path / name)


@pytest.mark.parametrize("dead", ["zeros", "constants", "twice"])
def test_directions_without_variance_are_refused(dead):
    """A headless backbone has features that are always 0, and an ensemble may hold one model twice."""
    values = descriptors()
    half = values[:, :12]
    other = {"zeros": np.zeros_like(half), "constants": np.full_like(half, 0.3), "twice": half}[dead]
    values = np.concatenate([half, other], axis=1)
    with pytest.raises(DataError, match="vary in 12 of 24 directions.*Pass --dimensions 12 or less"):
        fit(values, 13)
    mean, matrix = fit(values, 12)
    whitened = (values.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(whitened.T @ whitened / len(whitened), np.eye(12), rtol=0, atol=2e-2)


def test_equal_descriptors_are_refused():
    with pytest.raises(DataError, match="all 40 descriptors are equal"):
        fit(np.full((40, 24), 0.2, np.float32), 4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.nan, "NaN or infinity in 1 "), (np.inf, "NaN or infinity in 1 "), (3e38, "overflow"), (None, "float64")],
)
def test_descriptors_that_are_no_descriptors_are_refused(value, expected):
    values = descriptors()
    if value is None:
        values = values.astype(np.float64)
    else:
        values[3, 2] = value
    with pytest.raises(DataError, match=expected):
        fit(values, 4)


SPOILT = {
    "nan": lambda mean, matrix: (mean, matrix * np.nan),
    "infinity": lambda mean, matrix: (mean + np.inf, matrix),
    "a zero column": lambda mean, matrix: (mean, matrix * [[1, 0]]),
    "no columns": lambda mean, matrix: (mean, matrix[:, :0]),
    "more columns than rows": lambda mean, matrix: (mean[:1], matrix[:1]),
    "turned": lambda mean, matrix: (mean, matrix.T),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_whitening_is_refused_where_it_is_made_and_where_it_is_read(tmp_path, kind):
    random = np.random.default_rng(0)
    mean, matrix = SPOILT[kind](random.normal(size=3), random.normal(size=(3, 2)))
    mean, matrix = mean.astype(np.float32), matrix.astype(np.float32)
    with pytest.raises(DataError, match=r"w\.safetensors"):
        write_whitening(tmp_path / "w.safetensors", Whitening(mean, matrix, {}))
    assert not list(tmp_path.iterdir())
    write_tensors(tmp_path / "w.safetensors", {"mean": mean, "matrix": matrix}, {"format": FORMAT, "source": "{}"})
    with pytest.raises(DataError, match=r"w\.safetensors.*python -m retrieval\.whitening"):
        read_whitening(tmp_path / "w.safetensors")
