"""The state and the history of a training run (`training.state`, `training.history`)."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt
from training.history import COLUMNS, History, finish_history, history_path, read_history
from training.shards import Cut
from training.state import FORMAT, StateFolder, state_folder

_IDENTITY = {"recipe": "r"}
_OUT = Path("a.safetensors")
_FOLDER = StateFolder(state_folder(_OUT), _IDENTITY)
_SHAPES = {"w/conv": (2, 3, 1, 1), "w/classes": (3, 2)}
_RANGES = ([0, 2, 3], [2, 3, 3])
_ARRAYS = (
    {"w/conv": np.ones((2, 3, 1, 1), "f4"), "w/classes": np.ones((2, 2), "f4"), "own/bn": np.zeros(1, "f4")},
    {"w/classes": np.ones((1, 2), "f4"), "own/bn": np.ones(1, "f4")},
)
_METADATA = tuple(_FOLDER._origin(2, n) | {"cuts": json.dumps({"w/classes": _RANGES[n]})} for n in range(2))
_SHARDS = tuple(encode(*layout(arrays, header)) for arrays, header in zip(_ARRAYS, _METADATA, strict=True))
_TITLES = ",".join(COLUMNS).encode() + b"\n"
_LINES = tuple(b"%d,1,0,64,0.1,0.01,2.5,0.0,1.0\n" % n for n in range(3))
_PLACES = tuple(str(_FOLDER.path / f"2-{n}.safetensors") for n in range(2))
_MANIFEST, _HISTORY, _FINISHED = str(_FOLDER.path / "manifest.json"), str(_FOLDER.history), str(history_path(_OUT))


def _manifest(shards: tuple[bytes, ...], /, **values: object) -> bytes:
    """The manifest that knows the shards' sizes, but for the values that are given."""
    entries = [{"name": Path(place).name, "size": len(shard)} for place, shard in zip(_PLACES, shards, strict=True)]
    true = {"format": FORMAT, "identity": _IDENTITY, "step": 2, "numbers": {"best": 0.5}, "shards": entries}
    return json.dumps(true | values).encode()


def _state(shards: tuple[bytes, ...] = _SHARDS) -> dict[str, bytes]:
    """A sound run whose shards may be damaged."""
    history = _TITLES + b"".join(_LINES)
    files = {_MANIFEST: _manifest(shards), _HISTORY: history, _FINISHED: history}
    return files | dict(zip(_PLACES, shards, strict=True))


_VALID = _state()


def _read(folder: Path) -> None:
    out = folder / _OUT
    state = StateFolder(state_folder(out), _IDENTITY)
    entries = read_history(out)
    assert [entry["step"] for entry in entries] == [*range(len(entries))]
    assert all(math.isfinite(entry[key]) for entry in entries for key in COLUMNS[:-1])
    saved = state.saved()
    steps = saved.step if saved else 0
    if saved:
        assert all(map(math.isfinite, saved.numbers.values()))
        for rank, processes, cut in ((0, 1, None), (0, 2, Cut(0, 2, 3)), (1, 2, Cut(2, 3, 3)), (1, 3, Cut(1, 2, 3))):
            tensors, own = state.read(saved, rank, processes, _SHAPES, {"w/classes": cut} if cut else {})
            rows = (cut.stop - cut.start, 2) if cut else (3, 2)
            assert {name: value.shape for name, value in tensors.items()} == _SHAPES | {"w/classes": rows}
            assert (own is None) == (processes != len(saved.shards))
            assert all(np.isfinite(value).all() for value in (*tensors.values(), *(own or {}).values()))
    state.clean()
    History(state.history, steps).close()
    finish_history(out)
    assert len(read_history(out)) == steps


def _one(rank: int) -> st.SearchStrategy[Mapping[str, bytes]]:
    """One shard is damaged, and the manifest knows the size that it has now."""
    drawn = st.one_of(
        damaged(_SHARDS[rank]), lying(_ARRAYS[rank], _METADATA[rank]), spoilt(_ARRAYS[rank], _METADATA[rank])
    )
    return drawn.map(lambda content: _state((content, _SHARDS[1]) if rank == 0 else (_SHARDS[0], content)))


_NUMBERS = st.one_of(st.sampled_from((-1, 0, 1, 2.5, 10**12, 10**18, 2**64, "2", None, True, [], {})), st.integers())
_RANGE = st.lists(st.integers(0, 4) | _NUMBERS, min_size=2, max_size=4)
_HEADERS = st.tuples(st.integers(0, 1), st.one_of(_RANGE, _NUMBERS, st.text(max_size=5)))
_OTHERS = st.sampled_from(
    (b"\n", b"0\n", b"9" * 5000, b"0,0,0,0,0,0,nan,0,0\n", b"\xff\n", b"1,1,0,64,0.1,0.01,1e999,0.0,1.0\n", _TITLES)
)
_HISTORIES = st.one_of(
    damaged(_VALID[_HISTORY]),
    st.lists(st.one_of(st.sampled_from(_LINES), _OTHERS), max_size=4).map(lambda lines: _TITLES + b"".join(lines)),
)


def _with_range(drawn: tuple[int, object]) -> dict[str, bytes]:
    rank, value = drawn
    header = _METADATA[rank] | {"cuts": json.dumps({"w/classes": value})}
    content = encode(*layout(_ARRAYS[rank], header))
    return _state((content, _SHARDS[1]) if rank == 0 else (_SHARDS[0], content))


READER = Reader(
    "training state and history",
    st.one_of(
        _one(0),
        _one(1),
        _HEADERS.map(_with_range),
        damaged(_VALID[_MANIFEST]).map(lambda content: _VALID | {_MANIFEST: content}),
        st.tuples(st.sampled_from(("format", "identity", "step", "numbers", "shards")), _NUMBERS).map(
            lambda drawn: _VALID | {_MANIFEST: _manifest(_SHARDS, **{drawn[0]: drawn[1]})}
        ),
        st.tuples(st.sampled_from((_HISTORY, _FINISHED)), _HISTORIES).map(lambda drawn: _VALID | {drawn[0]: drawn[1]}),
    ),
    _read,
)
