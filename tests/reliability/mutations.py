"""Strategies that damage a valid file: what disks, downloads, editors and attackers do to it, whatever its format."""

import struct

from hypothesis import strategies as st

_EXTREME = (
    0,
    1,
    2**7 - 1,
    2**8 - 1,
    2**15 - 1,
    2**16 - 1,
    2**31 - 1,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
    100_000_000,
    2**40,
)
"""Lengths, offsets and counts that a file may claim."""


def damaged(valid: bytes, most: int = 4) -> st.SearchStrategy[bytes]:
    """A valid file with one to `most` changes: bits, bytes, numbers, cuts, repetitions, insertions, a cut end."""
    return st.lists(_change(len(valid)), min_size=1, max_size=most).map(lambda changes: _changed(valid, changes))


def damaged_folder(valid: dict[str, bytes], most: int = 4) -> st.SearchStrategy[dict[str, bytes]]:
    """A valid folder in which one file is damaged or missing."""

    def one(name: str) -> st.SearchStrategy[dict[str, bytes]]:
        others = {key: value for key, value in valid.items() if key != name}
        return st.one_of(damaged(valid[name], most).map(lambda content: others | {name: content}), st.just(others))

    return st.sampled_from(sorted(valid)).flatmap(one)


@st.composite
def _change(draw: st.DrawFn, length: int) -> tuple[str, int, int, bytes]:
    kind = draw(st.sampled_from(("flip", "byte", "number", "cut", "repeat", "insert", "end")))
    # Headers and directories lie at the beginning and the end.
    near = st.one_of(
        st.integers(0, min(512, length)), st.integers(max(0, length - 256), length), st.integers(0, length)
    )
    place, span = draw(near), draw(st.integers(1, 64))
    if kind == "number":
        value, width = draw(st.sampled_from(_EXTREME)), draw(st.sampled_from((1, 2, 4, 8)))
        order = draw(st.sampled_from("<>"))
        data = struct.pack(f"{order}Q", value)
        return kind, place, width, data[:width] if order == "<" else data[-width:]
    data = draw(st.binary(min_size=1, max_size=16)) if kind in ("insert", "byte") else b""
    return kind, place, draw(st.integers(0, 7)) if kind == "flip" else span, data


def _changed(content: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, place, span, data in changes:
        place = min(place, len(content))
        rest = content[place:]
        if kind == "flip" and rest:
            content = content[:place] + bytes([rest[0] ^ 1 << span]) + rest[1:]
        elif kind in ("number", "byte"):
            content = content[:place] + data + rest[len(data) :]
        elif kind == "cut":
            content = content[:place] + rest[span:]
        elif kind == "repeat":
            content = content[:place] + rest[:span] * 3 + rest[span:]
        elif kind == "insert":
            content = content[:place] + data + rest
        elif kind == "end":
            content = content[:place]
    return content
