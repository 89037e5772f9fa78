"""Results of a part of a search (`retrieval.sharded`), and what is made of them: a ranking."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from retrieval.embeddings import Embeddings
from retrieval.sharded import FORMAT, merge, read_part, search_part
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt
from zoo.errors import DataError

_ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
_INDEX = Embeddings(tuple("abcdef"), _ROWS, {"model": "m"})
_QUERIES = Embeddings(("q", "r"), _ROWS[:2] + np.float32(0.1), {"model": "m"})
_PART = search_part(_INDEX, _QUERIES, 4)
_ARRAYS = {"rows": _PART.rows, "distances": _PART.distances}
_METADATA = {"format": FORMAT, "searched": json.dumps(dataclasses.asdict(_PART.searched))}


def _read(path: Path) -> None:
    part = read_part(path)
    assert np.isfinite(part.distances).all() and (np.diff(part.distances, axis=1) >= 0).all()
    try:
        ranking = merge([part], _INDEX, _QUERIES)
    except DataError:
        return  # of another search
    assert ranking.rows.shape == (2, part.rows.shape[1]) and part.rows.shape[1] <= 4
    assert all(set(hits) <= set(_INDEX.ids) for hits in ranking.hits)


def _searched(**changed: object) -> bytes:
    header = dataclasses.asdict(_PART.searched) | changed
    return encode(*layout(_ARRAYS, _METADATA | {"searched": json.dumps(header)}))


def _file(**changed: np.ndarray) -> bytes:
    return encode(*layout(_ARRAYS | changed, _METADATA))


SPECIMENS = {
    "sound": _file(),
    "row_of_another_part": _file(rows=_PART.rows + 4),
    "negative_row": _file(rows=_PART.rows - 4),
    "rows_of_floats": _file(rows=_PART.rows.astype(np.float64)),
    "another_shape": _file(distances=_PART.distances[:, :3].copy()),
    "descending": _file(distances=_PART.distances[:, ::-1].copy()),
    "not_a_number": _file(distances=_PART.distances * np.nan),
    "fewer_neighbours_asked_for": _searched(k=3),
    "begins_after_its_end": _searched(start=7),
    "ends_after_the_index": _searched(stop=7),
    "unknown_key": _searched(other=1),
    "text_for_a_number": _searched(k="4"),
}
READER = Reader(
    "search part",
    st.one_of(
        damaged(encode(*layout(_ARRAYS, _METADATA))),
        lying(_ARRAYS, _METADATA),
        spoilt(_ARRAYS, _METADATA),
        st.builds(
            lambda name, value: _searched(**{name: value}),
            st.sampled_from(("index", "start", "stop", "images", "k", "other")),
            st.one_of(st.integers(-2, 9), st.sampled_from((2**63, 1e300, "a", None, [], True))),
        ),
    ),
    _read,
)
