"""Stores (`retrieval.store`), and what is computed from them: a ranking and a whitening."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from retrieval.search import search
from retrieval.store import COMPLETE, FORMAT, IDS, MANIFEST, ROWS, SQUARED_NORMS, Store, in_memory
from tests.reliability.mutations import damaged_folder
from tests.reliability.reader import Reader

_VALUES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
_IDS = b"a\nb\nc\nd\n"
_ENTRIES = {
    "images": 4, "dimensions": 3, "dtype": "float16", "batch": 1, "chunk": 2, "source": {"model": "m"}, "changed": "c",
    "ids_sha256": hashlib.sha256(_IDS).hexdigest(),
}  # fmt: skip


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _manifest(**entries: object) -> bytes:
    return json.dumps({"format": FORMAT, **_ENTRIES, **entries}).encode()


_VALID = {
    MANIFEST: _manifest(),
    IDS: _IDS,
    ROWS: _npy(_VALUES),
    SQUARED_NORMS: _npy((_VALUES.astype(float) ** 2).sum(1)),
    COMPLETE: b"{}",
    "chunks/0-of-1.jsonl": b'{"chunk": 0, "unreadable": {}}\n{"chunk": 1, "unreadable": {}}\n',
}
_REFUSED = (
    {MANIFEST: _manifest(images=2**60)},
    {MANIFEST: _manifest(dimensions=65536)},
    {MANIFEST: _manifest(chunk=10**30)},
    {MANIFEST: _manifest(source=[])},
    {MANIFEST: b"[" * 5_000},
    {ROWS: b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (4, 3), }".ljust(200)},
    {ROWS: _npy(_VALUES).replace(b"(4, 3)", b"(9**9)")},
    {ROWS: _npy(np.full((4, 3), np.nan, np.float16))},
    {ROWS: _npy(np.full((4, 3), np.inf, np.float16))},
    {SQUARED_NORMS: _npy(np.full(4, np.inf))},
    {SQUARED_NORMS: _npy(np.full(4, 1e300))},
    {SQUARED_NORMS: _npy(np.full(4, np.nan))},
    {IDS: b"a\na\na\na\n"},
    {IDS: b"\xed\xa0\x80\nb\nc\nd\n"},
)
_READ = (
    {"chunks/0-of-1.jsonl": b"[" * 5_000 + b"\n"},
    {"chunks/0-of-1.jsonl": b'{"chunk": 1, "unreadable": {"x": "y"}}\n', COMPLETE: b""},
)
"""A log only says what could not be read."""


def _read(folder: Path) -> None:
    store = Store.open(folder)
    assert len(store.ids) == len(store.rows) == len(store.squared_norms) == store.manifest.images
    assert (store.squared_norms > 0).all()
    assert all(isinstance(why, str) for why in store.unreadable.values())
    kept = in_memory(store)
    assert np.isfinite(kept.descriptors).all()
    found = search(store, kept, 2)
    assert np.isfinite(found.distances).all() and (found.distances >= 0).all()
    assert np.isfinite(store.squared_norms[found.rows]).all(), "an image that could not be read is never found"


READER = Reader(
    "store",
    st.one_of(damaged_folder(_VALID), st.sampled_from((*_REFUSED, *_READ)).map(lambda changed: _VALID | changed)),
    _read,
)
