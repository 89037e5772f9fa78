"""Embeddings files (`retrieval.embeddings`), and what is computed from them: a ranking and a whitening."""

import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from retrieval.embeddings import FORMAT, OLD_FORMAT, Embeddings
from retrieval.search import search
from retrieval.whitening import fit
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt

_ARRAYS = {
    "descriptors": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
    "ids": np.frombuffer(b"a\nb\nc\nd\n", np.uint8),
}
_METADATA = {"format": FORMAT, "source": '{"model": "m", "size": 224}'}


def _ids(raw: bytes) -> bytes:
    return encode(*layout(_ARRAYS | {"ids": np.frombuffer(raw, np.uint8)}, _METADATA))


def _old(ids: object) -> bytes:
    text = ids if isinstance(ids, str) else json.dumps(ids)
    return encode(*layout({"descriptors": _ARRAYS["descriptors"]}, {"format": OLD_FORMAT, "ids": text, "source": "{}"}))


def _read(path: Path) -> None:
    found = Embeddings.load(path)
    assert np.isfinite(found.descriptors).all() and found.descriptors.any(axis=1).all()
    assert len(found.ids) == len(found.descriptors) == len(set(found.ids))
    assert isinstance(found.source, dict)
    "".join(found.ids).encode()
    distances = search(found, found, 2).distances
    assert np.isfinite(distances).all() and (distances >= 0).all()
    whitening = fit(found, 1)
    assert np.isfinite(whitening.mean).all() and np.isfinite(whitening.matrix).all() and whitening.matrix.any()


_HOSTILE_IDS = (
    ["a", "b", "c", "d"],
    {"a": 1, "b": 2, "c": 3, "d": 4},
    ["a", "b", "c", 3],
    ["a", "b", "c", ["d"]],
    "abcd",
    '["a","b","c","\\ud800"]',
)
READER = Reader(
    "embeddings",
    st.one_of(
        damaged(encode(*layout(_ARRAYS, _METADATA))),
        lying(_ARRAYS, _METADATA),
        spoilt(_ARRAYS, _METADATA),
        st.one_of(
            st.binary(max_size=9),
            st.sampled_from((b"a\na\nb\nc\n", b"a b\nc\nd\ne\n", b"\n\n\n\n", b"a\nb\nc\n\xed\xa0\x80\n")),
        ).map(_ids),
        st.sampled_from(_HOSTILE_IDS).map(_old),
    ),
    _read,
)
