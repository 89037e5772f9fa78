"""Strategies of safetensors files: a header of JSON that may lie, and data."""

import copy
import json
import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

_DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "uint8": "U8", "int32": "I32"}
_LIES: tuple[Any, ...] = (
    *(
        -1,
        0,
        2**31,
        2**63,
        2**64,
        10**30,
        1.5,
        "F32",
        "BF16",
        "F8_E4M3",
        "BOOL",
        "C64",
        "",
        None,
        True,
        [],
        [0],
        [2**40] * 3,
    ),
    *([1] * 1000, [0, 10**12], {}, "\ud800", "9" * 5000),
)


def encode(header: Any, data: bytes) -> bytes:
    """The file: length of the header, header, data. A header of bytes is taken as it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def layout(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> tuple[dict[str, Any], bytes]:
    """A true header and the data of arrays."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": place}
        data += raw
    return header, data


@st.composite
def lying(draw: st.DrawFn, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A file in whose header one or two values are untrue, or that has another tensor twice, renamed or removed."""
    header, data = layout(arrays, metadata)
    names = [name for name in header if name != "__metadata__"]
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(names))
        entry = header.get(name)
        kind = draw(st.sampled_from(("dtype", "shape", "data_offsets", "rename", "remove", "entry", "metadata")))
        if kind == "metadata" and isinstance(header.get("__metadata__"), dict) and metadata:
            key = draw(st.sampled_from(sorted(metadata)))
            header["__metadata__"][key] = draw(st.one_of(st.sampled_from(_HOSTILE_TEXT), st.text(max_size=20)))
        elif kind == "rename" and name in header:
            header[draw(st.sampled_from(("x", "", "../x", "a" * 5000, f"{name}.more")))] = header.pop(name)
        elif kind == "remove":
            header.pop(name, None)
        elif kind == "entry":
            header[name] = copy.deepcopy(draw(st.sampled_from(_LIES)))
        elif isinstance(entry, dict):
            entry[kind] = copy.deepcopy(draw(st.sampled_from(_LIES)))
    return encode(header, data)


_HOSTILE_TEXT = (
    *(
        "",
        "null",
        "{}",
        "[]",
        "[" * 100_000,
        '{"a":' * 50_000,
        "1" * 5000,
        "NaN",
        '"\\ud800"',
        "1e999",
        "-1",
        "2",
        "10" * 9,
    ),
    *('{"a": 1, "a": 2}', "true", '"text"'),
)


def spoilt(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> st.SearchStrategy[bytes]:
    """A sound file in which one array has a value that no computation should have: NaN, infinity, zeros, huge, negative."""

    def one(drawn: tuple[str, float, bool]) -> bytes:
        name, value, everywhere = drawn
        copies = {key: array.copy() for key, array in arrays.items()}
        if np.issubdtype(copies[name].dtype, np.floating) and copies[name].size:
            copies[name].flat[slice(None) if everywhere else 0] = value
        return encode(*layout(copies, metadata))

    values = st.sampled_from((float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e38, -1e-38))
    return st.tuples(st.sampled_from(sorted(arrays)), values, st.booleans()).map(one)
