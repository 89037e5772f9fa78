"""Whitening files (`retrieval.whitening`)."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from retrieval.whitening import FORMAT, read_whitening
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt

_RANDOM = np.random.default_rng(0)
_ARRAYS = {
    "mean": _RANDOM.normal(size=4).astype(np.float32),
    "matrix": _RANDOM.normal(size=(4, 3)).astype(np.float32),
}
_METADATA = {"format": FORMAT, "source": '{"model": "m", "size": 224}', "shrinkage": "1.0"}
_SHRINKAGES = ("-1", "NaN", "Infinity", "1e999", '"1"', "[]", "{}", "true", "", "9" * 5000)


def _shaped(drawn: tuple[tuple[int, ...], tuple[int, ...]]) -> bytes:
    mean, matrix = (_RANDOM.normal(size=shape).astype(np.float32) for shape in drawn)
    return encode(*layout({"mean": mean, "matrix": matrix}, _METADATA))


def _read(path: Path) -> None:
    mean, matrix, source, shrinkage = read_whitening(path)
    assert np.isfinite(mean).all() and np.isfinite(matrix).all() and matrix.any(axis=0).all()
    assert len(mean) == len(matrix) >= matrix.shape[1] >= 1
    assert isinstance(source, dict)
    assert shrinkage is None or 0 <= shrinkage < np.inf


_SHAPE = st.lists(st.integers(0, 5), max_size=3).map(tuple)
READER = Reader(
    "whitening",
    st.one_of(
        damaged(encode(*layout(_ARRAYS, _METADATA))),
        lying(_ARRAYS, _METADATA),
        spoilt(_ARRAYS, _METADATA),
        st.tuples(_SHAPE, _SHAPE).map(_shaped),
        st.sampled_from(_SHRINKAGES).map(lambda text: encode(*layout(_ARRAYS, _METADATA | {"shrinkage": text}))),
    ),
    _read,
)
