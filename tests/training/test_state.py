"""A run's state and history have no limit on the number of steps; a finished run is not overwritten."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training import loop
from training.loop import fit, require_new
from training.recipes import Recipe, Stage
from training.schedule import Step
from training.state import History, State, history_path, load_state, read_history, save_state
from zoo.checkpoint import load_checkpoint
from zoo.errors import CheckpointError, OutputError
from zoo.processes import module_environment
from zoo.tensors import read_header, write_tensors
from zoo.weights import is_buffer

IDENTITY = {"recipe": "a", "framework": "torch"}
SHAPES = {"w": (2,)}
STEP = Step(0, 1, 0, 0, 64, 0.1, 0.01)


def state(steps: int) -> State:
    return State(steps, {"w": np.ones(2, np.float32)}, {"w": np.zeros(2, np.float32)})


def test_the_state_does_not_grow_with_the_steps(tmp_path):
    """A safetensors header ends at 100 MB, so it must not hold one entry per step."""
    sizes = []
    for steps in (10, 10**9):
        save_state(tmp_path / "a.state.safetensors", state(steps), IDENTITY)
        assert load_state(tmp_path / "a.state.safetensors", IDENTITY, SHAPES).steps == steps
        sizes.append(sum(map(len, read_header(tmp_path / "a.state.safetensors").values())))
    assert sizes[1] - sizes[0] == 8


def test_a_state_comes_back(tmp_path):
    save_state(tmp_path / "a.state.safetensors", state(7), IDENTITY)
    found = load_state(tmp_path / "a.state.safetensors", IDENTITY, SHAPES)
    assert list(found.weights) == list(found.momentum) == ["w"]
    assert found.weights["w"].tolist() == [1, 1]
    assert found.momentum["w"].tolist() == [0, 0]
    with pytest.raises(CheckpointError, match="different recipe"):
        load_state(tmp_path / "a.state.safetensors", IDENTITY | {"recipe": "b"}, SHAPES)


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
    with pytest.raises(CheckpointError, match="has 1 steps, but the state beside it has 4"):
        History(tmp_path / "a.history.jsonl", 4)


@pytest.mark.parametrize("line", ["{", "[1]", '{"step": 0}', "WRONG STEP"])
def test_a_damaged_history_is_found_before_training_goes_on(tmp_path, line):
    history = History(tmp_path / "a.history.jsonl", 0)
    for number in range(3):
        history.add(Step(number, 1, 0, number, 64, 0.1, 0.01), 1.0, 0.0)
    history.close()
    lines = (tmp_path / "a.history.jsonl").read_text(encoding="utf-8").splitlines()
    lines[1] = lines[1].replace('"step": 1', '"step": 77') if line == "WRONG STEP" else line
    (tmp_path / "a.history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"a\.history\.jsonl, line 2.* remove the state"):
        History(tmp_path / "a.history.jsonl", 3)
    History(tmp_path / "a.history.jsonl", 1).close()


def test_a_damaged_history_is_named(tmp_path):
    for text in (
        "{",
        "[1]",
        "null",
        "{}",
        '{"step": 1}',
        "[" * 100_000,
        "\xff",
        '{"loss": NaN}',
        "9" * 5000,
        "a" * 20_000,
    ):
        (tmp_path / "a.history.jsonl").write_text(f"{text}\n", encoding="latin-1")
        with pytest.raises(CheckpointError, match=r"a\.history\.jsonl.* Train again to write it"):
            read_history(tmp_path / "a.safetensors")


SPOILT = {
    "a missing tensor": ({}, {"w": np.zeros(2, np.float32)}, "- w .* is missing"),
    "another shape": ({"w": np.ones(3, np.float32)}, {}, r"! w: expected \[2\], found \[3\]"),
    "another type": ({"w": np.ones(2, np.int32)}, {}, "expected float32, found int32"),
    "another tensor": ({"w": np.ones(2, np.float32), "x": np.ones(1, np.float32)}, {}, r"\+ x"),
    "NaN": ({"w": np.full(2, np.nan, np.float32)}, {}, "not finite"),
    "another momentum": ({"w": np.ones(2, np.float32)}, {"y": np.ones(2, np.float32)}, r"\+ y"),
    "NaN in the momentum": ({"w": np.ones(2, np.float32)}, {"w": np.full(2, np.inf, np.float32)}, "not finite"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_state_that_is_not_sound_is_refused_and_kept(tmp_path, kind):
    weights, momentum, message = SPOILT[kind]
    path = tmp_path / "a.state.safetensors"
    save_state(path, State(3, weights, momentum), IDENTITY)
    with pytest.raises(CheckpointError, match=rf"(?s)not a sound state.*{message}.*Remove .* to start again"):
        load_state(path, IDENTITY, SHAPES)
    assert path.exists()


@pytest.mark.parametrize("steps", ["", "-1", "1.5", "9" * 5000, "٣"])
def test_a_state_with_an_impossible_number_of_steps_is_refused(tmp_path, steps):
    path = tmp_path / "a.state.safetensors"
    write_tensors(path, {"w": np.ones(2, np.float32)}, {**IDENTITY, "steps": steps})
    with pytest.raises(CheckpointError, match="state of another run"):
        load_state(path, IDENTITY, SHAPES)


def test_a_finished_run_is_not_overwritten(tmp_path):
    out = tmp_path / "a.safetensors"
    require_new(out, overwrite=False)
    out.touch()
    with pytest.raises(OutputError, match="pass --overwrite to train again"):
        require_new(out, overwrite=False)
    require_new(out, overwrite=True)


RECIPE = Recipe(["resnet10_narrow"], [Stage(2, 32, 0.1, 0.01)], batch_size=2)
STEPS_PER_EPOCH = 4


class FakeTrainer:
    """Counts its steps in every trained tensor, and is killed in the one that `killed_at` says."""

    framework = "torch"
    version = "0"
    killed_at = -1

    def __init__(self, spec, classes, recipe, weights) -> None:
        self.values = {name: value.copy() for name, value in weights.items()}

    def step(self, images, labels, step) -> tuple[float, float]:
        if step.number == self.killed_at:
            raise SystemExit
        for name, value in self.values.items():
            if not is_buffer(name):
                value += 1
        return 1.0 / (step.number + 1), 0.0

    def weights(self):
        return self.values

    def momentum(self):
        return {}

    def load_momentum(self, momentum) -> None:
        assert momentum == {}


def run(out: Path, *, killed_at: int = -1, images: str = "i") -> None:
    trainer = type("Killed", (FakeTrainer,), {"killed_at": killed_at})
    batch = np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64)
    spec = RECIPE.spec("resnet10_narrow")
    fit(
        trainer, spec, RECIPE, [1, 1], STEPS_PER_EPOCH, lambda step: iter([batch] * STEPS_PER_EPOCH), out, images=images
    )


@pytest.mark.parametrize(("seconds", "saved"), [(0, 3), (600, None)])
def test_the_state_is_saved_within_an_epoch(tmp_path, monkeypatch, seconds, saved):
    """An epoch may take hours: a killed run loses at most ten minutes of it."""
    out, whole = tmp_path / "a.safetensors", tmp_path / "whole.safetensors"
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_STATES", seconds)
    with pytest.raises(SystemExit):
        run(out, killed_at=3)
    state = tmp_path / "a.state.safetensors"
    assert state.exists() == (saved is not None)
    if saved is not None:
        assert read_header(state)["steps"] == str(saved)
    run(out)
    run(whole)
    assert not state.exists()
    assert [entry["step"] for entry in read_history(out)] == list(range(2 * STEPS_PER_EPOCH))
    assert history_path(out).read_text() == history_path(whole).read_text()
    found, expected = load_checkpoint(out), load_checkpoint(whole)
    assert found.provenance == expected.provenance
    assert all(np.array_equal(found.weights[name], value) for name, value in expected.weights.items())
    with pytest.raises(OutputError, match="this run is finished"):
        run(out)


def test_a_state_of_other_images_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_STATES", 0)
    with pytest.raises(SystemExit):
        run(tmp_path / "a.safetensors", killed_at=3)
    with pytest.raises(CheckpointError, match="different images"):
        run(tmp_path / "a.safetensors", images="changed")
    run(tmp_path / "a.safetensors")


def test_a_damaged_history_costs_no_trained_weights(tmp_path, monkeypatch):
    """It is read before training, not between the last step and the checkpoint."""
    out = tmp_path / "a.safetensors"
    trainer = type("Vandal", (FakeTrainer,), {})
    step = trainer.step

    def spoil(self, images, labels, at):
        if at.number == 5:
            history_path(out).write_text("{")
        return step(self, images, labels, at)

    trainer.step = spoil
    batch = np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64)
    spec = RECIPE.spec("resnet10_narrow")
    batches = [batch] * STEPS_PER_EPOCH
    fit(trainer, spec, RECIPE, [1, 1], STEPS_PER_EPOCH, lambda step: iter(batches), out, images="i")
    run(whole := tmp_path / "whole.safetensors")
    assert load_checkpoint(out).provenance == load_checkpoint(whole).provenance


def test_a_history_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"a\.history\.jsonl could not be written"):
        History(tmp_path / "file" / "a.history.jsonl", 0)


def test_two_trainings_to_one_checkpoint_and_the_second_is_refused(tmp_path, monkeypatch):
    """The lock belongs to a process, so another one has to try."""
    monkeypatch.setattr("training.state.WAIT_SECONDS", 0)
    path = tmp_path / "a.history.jsonl"
    history = History(path, 0)
    code = (
        "import sys, training.state as s; from pathlib import Path; from zoo.command import run; s.WAIT_SECONDS = 0; "
        "run(lambda: s.History(Path(sys.argv[1]), 0))"
    )
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, env=module_environment(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert "a.history.jsonl is being written by another process" in done.stderr
    history.close()
    assert subprocess.run(words, env=module_environment(), check=False).returncode == 0
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == ["a.history.jsonl"]
