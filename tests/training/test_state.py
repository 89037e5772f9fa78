"""A run's state and history have no limit on the number of steps; a finished run is not overwritten."""

import numpy as np
import pytest

from training.loop import require_new
from training.recipes import Step
from training.state import History, State, history_path, load_state, read_history, save_state
from zoo.errors import CheckpointError, OutputError
from zoo.tensors import read_header

IDENTITY = {"recipe": "a", "framework": "torch"}
STEP = Step(0, 1, 0, 0, 64, 0.1, 0.01)


def state(steps: int) -> State:
    return State(steps, {"w": np.ones(2, np.float32)}, {"w": np.zeros(2, np.float32)})


def test_the_state_does_not_grow_with_the_steps(tmp_path):
    """A safetensors header ends at 100 MB, so it must not hold one entry per step."""
    sizes = []
    for steps in (10, 10**9):
        save_state(tmp_path / "a.state.safetensors", state(steps), IDENTITY)
        assert load_state(tmp_path / "a.state.safetensors", IDENTITY).steps == steps
        sizes.append(sum(map(len, read_header(tmp_path / "a.state.safetensors").values())))
    assert sizes[1] - sizes[0] == 8


def test_a_state_comes_back(tmp_path):
    save_state(tmp_path / "a.state.safetensors", state(7), IDENTITY)
    found = load_state(tmp_path / "a.state.safetensors", IDENTITY)
    assert list(found.weights) == list(found.momentum) == ["w"]
    assert found.weights["w"].tolist() == [1, 1]
    assert found.momentum["w"].tolist() == [0, 0]
    with pytest.raises(CheckpointError, match="its recipe differ"):
        load_state(tmp_path / "a.state.safetensors", IDENTITY | {"recipe": "b"})


def test_a_history_is_cut_to_the_state_and_goes_on(tmp_path):
    out = tmp_path / "a.safetensors"
    history = History(history_path(out), 0)
    for number in range(5):
        history.add(Step(number, 1, 0, number, 64, 0.1, 0.01), 1.5, 0.25)
    history.close()
    with open(history_path(out), "a") as file:
        file.write('{"step": 5, "lo')  # the process was killed in the middle of a line
    history = History(history_path(out), 3)
    history.add(Step(3, 1, 0, 3, 64, 0.1, 0.01), 0.5, 0.75)
    history.close()
    found = read_history(out)
    assert [entry["step"] for entry in found] == [0, 1, 2, 3]
    assert [entry["loss"] for entry in found] == [1.5, 1.5, 1.5, 0.5]


def test_a_history_that_lost_steps_is_refused(tmp_path):
    history = History(tmp_path / "a.history.jsonl", 0)
    history.add(STEP, 1.0, 0.0)
    history.close()
    with pytest.raises(CheckpointError, match="has 1 steps, and the state beside it is of 4"):
        History(tmp_path / "a.history.jsonl", 4)


def test_a_damaged_history_is_named(tmp_path):
    (tmp_path / "a.history.jsonl").write_text("{")
    with pytest.raises(CheckpointError, match=r"a\.history\.jsonl is not a readable training history"):
        read_history(tmp_path / "a.safetensors")


def test_a_finished_run_is_not_overwritten(tmp_path):
    out = tmp_path / "a.safetensors"
    require_new(out, overwrite=False)
    out.touch()
    with pytest.raises(OutputError, match="pass --overwrite to train it again"):
        require_new(out, overwrite=False)
    require_new(out, overwrite=True)
