"""JSON files of any kind (`zoo.text.read_json`)."""

from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from zoo.text import read_json

_VALID = b'{"a": [1, 2.5, null, true], "b": {"c": "d\\u00e9", "e": -1e-9}}'
_HOSTILE = (
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1" * 5000,
    b"1e999",
    b"[NaN, -Infinity]",
    b'"\\ud800"',
    b'{"\\udfff": 1}',
    b'{"a": 1, "a": 2}',
    b"\xff\xfe[\x00]\x00",
    b"",
)
READER = Reader("JSON file", st.one_of(st.sampled_from(_HOSTILE), damaged(_VALID), st.binary(max_size=40)), read_json)
