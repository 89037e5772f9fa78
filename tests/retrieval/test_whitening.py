"""PCA-whitening compared with numpy's eigenvectors, its errors, and its file as read by `export.ensemble`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval import whitening as whitenings
from retrieval.embeddings import Embeddings, squared_norms
from retrieval.store import Selection
from retrieval.whitening import FORMAT, Whitening, find_directions, fit, read_whitening, write_whitening
from zoo.errors import DataError
from zoo.tensors import write_tensors

ROOT = Path(__file__).resolve().parents[2]


def descriptors(count: int = 500, length: int = 24, seed: int = 0) -> np.ndarray:
    """Unit-norm float32 [count, length], correlated and not centred."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, length)) * np.geomspace(1, 0.1, length) @ random.normal(size=(length, length))
    values += random.normal(size=length)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def embedded(values: np.ndarray) -> Embeddings:
    """Descriptors with ids."""
    return Embeddings(tuple(f"{row:016x}" for row in range(len(values))), values, {"model": "an ensemble"})


def oracle(values: np.ndarray, dimensions: int, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """The same in float64: eigenvectors of the covariance, largest variances first, divided by square roots."""
    values = values.astype(np.float64)
    centred = values - values.mean(axis=0)
    variances, vectors = np.linalg.eigh(centred.T @ centred / len(values))
    order = np.argsort(variances)[::-1][:dimensions]
    kept = variances[order]
    return values.mean(axis=0), vectors[:, order] / np.sqrt(kept + shrinkage * kept.mean())


def require_equal(found: Whitening, mean: np.ndarray, matrix: np.ndarray, tolerance: float = 1e-3) -> None:
    """Up to the sign of each direction, which is arbitrary."""
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-6)
    signs = np.sign((found.matrix * matrix).sum(axis=0))
    np.testing.assert_allclose(found.matrix * signs, matrix, rtol=0, atol=tolerance * np.abs(matrix).max())


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("dimensions", [24, 10, 1])
def test_it_is_numpys(dimensions, shrinkage):
    values = descriptors()
    found = fit(embedded(values), dimensions, shrinkage)
    assert (found.mean.dtype, found.matrix.dtype, found.matrix.shape) == (np.float32, np.float32, (24, dimensions))
    assert found.matrix.flags.c_contiguous
    assert (found.source, found.shrinkage) == ({"model": "an ensemble"}, shrinkage)
    require_equal(found, *oracle(values, dimensions, shrinkage))


@pytest.mark.parametrize("dimensions", [24, 10])
def test_without_shrinkage_whitened_numbers_are_independent_and_of_variance_one(dimensions):
    values = descriptors()
    mean, matrix, *_ = fit(embedded(values), dimensions, 0.0)
    whitened = (values.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(whitened.T @ whitened / len(values), np.eye(dimensions), rtol=0, atol=2e-3)


def test_shrinkage_keeps_small_directions_small():
    """The more is added to all variances, the more the whitened ones differ, as those of the descriptors do."""
    values = descriptors()
    spread = []
    for shrinkage in (0.0, 0.1, 1.0, 100.0):
        mean, matrix, *_ = fit(embedded(values), 24, shrinkage)
        deviations = ((values - mean) @ matrix).std(axis=0)
        spread.append(deviations.max() / deviations.min())
    assert spread == sorted(spread) and spread[0] < 1.01 < 2 * spread[0] < spread[-1]


def test_the_directions_of_most_variance_are_kept():
    directions = find_directions(embedded(descriptors()))
    few, all_of_them = directions.whitening(5, 0.0).matrix, directions.whitening(24, 0.0).matrix
    np.testing.assert_allclose(np.abs((few * all_of_them[:, :5]).sum(axis=0)), (few**2).sum(axis=0), rtol=1e-4)


def test_a_view_is_fitted_as_it_reads():
    values = descriptors()
    view = np.asfortranarray(np.concatenate([values, values]))[::2]
    assert not view.flags.c_contiguous
    found, expected = fit(embedded(view), 7), fit(embedded(np.ascontiguousarray(view)), 7)
    np.testing.assert_array_equal(found.matrix, expected.matrix)


def test_a_store_is_fitted_in_blocks_and_without_the_images_that_could_not_be_read(monkeypatch):
    """Mapped float16 rows; the last block is not full, and one block holds nothing that could be read."""
    monkeypatch.setattr(whitenings, "_BLOCK", 64)
    stored = descriptors().astype(np.float16)
    norms = squared_norms(stored)
    unreadable = np.r_[3, 64:128, 499]
    stored[unreadable], norms[unreadable] = 0, np.inf
    found = fit(Selection(range(500), stored, norms, {}), 10, 0.5)  # pyright: ignore[reportArgumentType]
    require_equal(found, *oracle(np.delete(stored, unreadable, axis=0), 10, 0.5))


def test_values_far_from_0_keep_their_variance():
    values = (descriptors() + 300).astype(np.float32)
    require_equal(fit(embedded(values), 10, 0.5), *oracle(values, 10, 0.5))


def test_whitened_descriptors_have_unit_norm():
    values, whitening = descriptors(), fit(embedded(descriptors()), 10)
    found = whitening.apply(values.astype(np.float16))
    assert (found.dtype, found.shape) == (np.float32, (500, 10))
    expected = (values.astype(np.float64) - whitening.mean) @ whitening.matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)  # the rounding to float16
    assert not whitening.apply(whitening.mean[None]).any()  # no direction: zeros, not NaN


def test_fewer_images_than_numbers_are_enough_with_shrinkage():
    values = descriptors(12)
    require_equal(fit(embedded(values), 11, 1.0), *oracle(values, 11, 1.0))
    with pytest.raises(DataError, match="vary in 11 of 24 directions.*Pass --dimensions 11 or less"):
        fit(embedded(values), 12, 1.0)


@pytest.mark.parametrize(("count", "dimensions"), [(23, 4), (30, 25), (30, 0), (30, -1)])
def test_what_cannot_be_fitted_is_said(count, dimensions):
    with pytest.raises(DataError, match=f"{count} descriptors of 24 numbers.* {dimensions} dimensions.*Embed more"):
        fit(embedded(descriptors(count)), dimensions, 0.0)


def command(*words: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "retrieval.whitening", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_writes_what_the_ensemble_reads(tmp_path):
    values, out = descriptors(), tmp_path / "deep" / "whitening.safetensors"
    embedded(values).save(tmp_path / "index.safetensors")
    done = command("--embeddings", tmp_path / "index.safetensors", "--dimensions", 10, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    found = read_whitening(out)
    assert (found.source, found.shrinkage) == ({"model": "an ensemble"}, 1.0)
    require_equal(found, *oracle(values, 10, 1.0))

    done = command(
        *("--embeddings", tmp_path / "index.safetensors", "--dimensions", 10, "--shrinkage", 0.25, "--out", out)
    )
    assert done.returncode == 0, done.stderr
    require_equal(read_whitening(out), *oracle(values, 10, 0.25))

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


def test_a_file_without_shrinkage_is_read(tmp_path):
    """As earlier versions wrote it."""
    arrays = {"mean": np.zeros(3, np.float32), "matrix": np.eye(3, dtype=np.float32)}
    write_tensors(tmp_path / "w.safetensors", arrays, {"format": FORMAT, "source": '{"model": "m"}'})
    found = read_whitening(tmp_path / "w.safetensors")
    assert (found.source, found.shrinkage) == ({"model": "m"}, None)


@pytest.mark.parametrize("dead", ["zeros", "constants", "twice"])
def test_directions_without_variance_are_refused(dead):
    """A headless backbone has features that are always 0, and an ensemble may hold one model twice."""
    values = descriptors()
    half = values[:, :12]
    other = {"zeros": np.zeros_like(half), "constants": np.full_like(half, 0.3), "twice": half}[dead]
    values = np.concatenate([half, other], axis=1)
    with pytest.raises(DataError, match="vary in 12 of 24 directions.*Pass --dimensions 12 or less"):
        fit(embedded(values), 13)
    mean, matrix, *_ = fit(embedded(values), 12, 0.0)
    whitened = (values.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(whitened.T @ whitened / len(whitened), np.eye(12), rtol=0, atol=2e-2)


def test_equal_descriptors_are_refused():
    with pytest.raises(DataError, match="all 40 descriptors are equal"):
        fit(embedded(np.full((40, 24), 0.2, np.float32)), 4)


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
        fit(embedded(values), 4)


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


def test_whitened_images_that_could_not_be_read_are_never_found():
    rows = np.random.default_rng(3).standard_normal((40, 6)).astype(np.float32)
    norms = squared_norms(rows)
    rows[7], norms[7] = 0, np.inf
    images = Selection([str(row) for row in range(40)], rows, norms, {"model": "m"})
    whitening = find_directions(images).whitening(4, 1.0)
    found = whitening.images(images)
    assert np.isinf(found.squared_norms).tolist() == [row == 7 for row in range(40)]
    assert (found.rows == whitening.apply(rows)).all() and (found.ids, found.source) == (images.ids, images.source)
