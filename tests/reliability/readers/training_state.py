"""The state and the history of a training run (`training.state`)."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.safetensors_files import encode, layout, lying, spoilt
from training.state import History, history_path, load_state, read_history, state_path

_SHAPES = {"backbone.conv1.weight": (2, 3, 1, 1), "backbone.bn1.running_var": (2,)}
_IDENTITY = {"recipe": "r", "model": "{}", "framework": "torch"}
_ARRAYS = {name: np.ones(shape, np.float32) for name, shape in _SHAPES.items()}
_ARRAYS |= {"momentum:backbone.conv1.weight": np.zeros((2, 3, 1, 1), np.float32)}
_METADATA = _IDENTITY | {"steps": "2"}
_LINES = tuple(
    b'{"step": %d, "stage": 1, "resolution": 64, "margin": 0.1, "learning_rate": 0.01, "loss": 2.5, "accuracy": 0.0}\n'
    % n
    for n in range(3)
)
_STATE, _HISTORY = "a.state.safetensors", "a.history.jsonl"
_VALID = {_STATE: encode(*layout(_ARRAYS, _METADATA)), _HISTORY: b"".join(_LINES)}
_OTHERS = st.sampled_from(
    (b"[1]\n", b"null\n", b"{}\n", b"[" * 100_000, b"9" * 5000, b'{"step": 0, "loss": NaN}\n', b"\xff\n", b"\n")
)
_HISTORIES = st.one_of(
    damaged(b"".join(_LINES)), st.lists(st.one_of(st.sampled_from(_LINES), _OTHERS), max_size=4).map(b"".join)
)


def _read(folder: Path) -> None:
    out = folder / "a.safetensors"
    state = load_state(state_path(out), _IDENTITY, _SHAPES)
    assert all(np.isfinite(value).all() for value in (*state.weights.values(), *state.momentum.values()))
    assert {name: value.shape for name, value in state.weights.items()} == _SHAPES
    History(history_path(out), state.steps).close()
    assert all(isinstance(entry["loss"], int | float) for entry in read_history(out))


READER = Reader(
    "training state and history",
    st.one_of(
        st.one_of(damaged(_VALID[_STATE]), lying(_ARRAYS, _METADATA), spoilt(_ARRAYS, _METADATA)).map(
            lambda content: _VALID | {_STATE: content}
        ),
        _HISTORIES.map(lambda content: _VALID | {_HISTORY: content}),
    ),
    _read,
)
