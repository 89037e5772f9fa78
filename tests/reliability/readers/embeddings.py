"""Embeddings files (`retrieval.embeddings`)."""

import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from retrieval.embeddings import FORMAT, OLD_FORMAT, Embeddings
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt

_ARRAYS = {
    "descriptors": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "ids": np.frombuffer(b"a\nb\nc\n", np.uint8),
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


_HOSTILE_IDS = (
    ["a", "b", "c"],
    {"a": 1, "b": 2, "c": 3},
    ["a", "b", 3],
    ["a", "b", ["c"]],
    "abc",
    '["a","b","\\ud800"]',
)
READER = Reader(
    "embeddings",
    st.one_of(
        damaged(encode(*layout(_ARRAYS, _METADATA))),
        lying(_ARRAYS, _METADATA),
        spoilt(_ARRAYS, _METADATA),
        st.one_of(
            st.binary(max_size=9), st.sampled_from((b"a\na\nb\n", b"a b\nc\nd\n", b"\n\n\n", b"a\nb\n\xed\xa0\x80\n"))
        ).map(_ids),
        st.sampled_from(_HOSTILE_IDS).map(_old),
    ),
    _read,
)
