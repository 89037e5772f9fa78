"""The files of a run's folder (`pipeline.run_folder`)."""

import json
from pathlib import Path

from hypothesis import strategies as st

from pipeline.run_folder import Identity, claim, read_cost, read_parity
from tests.reliability.mutations import damaged_folder
from tests.reliability.reader import Reader

_IDENTITY = Identity("r", "demo", {"train": "a"})
_ROW = {"arrow": "torch → tf 2.2", "model": "m", "max_abs": 1e-7, "cosine": 1.0, "tolerance": 1e-5, "size": None}
_VALUES = {
    "run.json": {"recipe": "r", "data": "demo", "images": {"train": "a"}},
    "seconds.json": {"seconds": {"training": 1.5}, "peak_rss_mib": 100.0},
    "parity.json": [_ROW],
}
_VALID = {name: json.dumps(value).encode() for name, value in _VALUES.items()}
_JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        st.sampled_from(("recipe", 10**30, -1, float("nan"), "\ud800")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(("recipe", "data", "images", "seconds", "peak_rss_mib", "arrow", "x")), inner, max_size=4
        ),
    ),
    max_leaves=8,
)
_HOSTILE = st.sampled_from(
    (b"[" * 100_000, b'{"seconds":' * 50_000, b"9" * 5000, b"", b"\xef\xbb\xbf{}", b'{"recipe": 1e999}')
)


def _read(folder: Path) -> None:
    cost = read_cost(folder)
    assert all(value >= 0 for value in (*cost.seconds.values(), cost.peak_rss_mib))
    assert all(isinstance(row["max_abs"], float) for row in read_parity(folder))
    claim(folder, _IDENTITY)


READER = Reader(
    "run folder",
    st.one_of(
        damaged_folder(_VALID),
        st.tuples(
            st.sampled_from(sorted(_VALID)), st.one_of(_JSON.map(lambda value: json.dumps(value).encode()), _HOSTILE)
        ).map(lambda drawn: _VALID | {drawn[0]: drawn[1]}),
    ),
    _read,
)
