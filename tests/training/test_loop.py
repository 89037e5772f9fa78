"""The loop resumes a run where its state was saved; a finished run is not overwritten."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from training.command import require_new
from training.execution import PLAIN
from training.history import history_path, read_history
from training.loop import Plan, fit, identity
from training.recipes import Recipe, Stage
from training.state import state_folder
from zoo.checkpoint import load_checkpoint
from zoo.errors import CheckpointError, OutputError
from zoo.weights import initial_weights, is_buffer


class Alone:
    """A group of one process."""

    rank, size = 0, 1

    def any(self, *flags):
        return list(flags)

    def wait(self):
        pass

    def shared(self, value):
        return value

    def collected(self, value):
        return [value]


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
    measured = staticmethod(lambda step: (1.0 / (step.number + 1), 0.0, 1.0))

    def __init__(self, spec, classes, recipe, weights, execution, group) -> None:
        self.values = {name: value.copy() for name, value in weights.items()}

    def step(self, images, labels, step):
        if step.number == self.killed_at:
            raise SystemExit
        for name, value in self.values.items():
            if not is_buffer(name):
                value += 1
        return self.measured(step)

    def read(self, measured):
        return np.array(measured)

    def tensors(self):
        return {f"weights/{name}": value.copy() for name, value in self.values.items()}

    def load(self, tensors):
        self.values = {name.removeprefix("weights/"): value for name, value in tensors.items()}

    def numbers(self):
        return {"updates": 1}

    def load_numbers(self, numbers):
        assert numbers == {"updates": 1}

    @contextlib.contextmanager
    def shared_statistics(self):
        yield {}


class FakeImages:
    """Grey images, the same ones in every batch."""

    batches_per_epoch = STEPS_PER_EPOCH

    def __init__(self):
        self.damaged = {}

    def batches(self, epoch, size, start=0):
        batch = np.zeros((2, size, size, 3), np.uint8), np.zeros(2, np.int64)
        return iter([batch] * (STEPS_PER_EPOCH - start))

    def files(self, epoch, batch):
        return [f"{epoch}-{batch}-{number}.jpg" for number in range(2)]


def run(out: Path, *, images: str = "i", minutes: float = 10.0, **attributes) -> None:
    trainer = type("Fake", (FakeTrainer,), attributes)
    spec = RECIPE.spec("resnet10_narrow")
    plan = Plan(spec, RECIPE, 2, out, identity(spec, RECIPE, images=images, precision="float32"), minutes)
    fit(trainer, plan, lambda: initial_weights(spec, [1, 1], 0), FakeImages(), PLAIN, Alone())


@pytest.mark.parametrize(("minutes", "saved"), [(0, 3), (10, None)])
def test_the_state_is_saved_within_an_epoch(tmp_path, minutes, saved):
    """An epoch may take hours: a killed run loses at most ten minutes of it."""
    out, whole = tmp_path / "a.safetensors", tmp_path / "whole.safetensors"
    with pytest.raises(SystemExit):
        run(out, killed_at=3, minutes=minutes)
    manifest = state_folder(out) / "manifest.json"
    assert manifest.exists() == (saved is not None)
    if saved is not None:
        assert json.loads(manifest.read_text())["step"] == saved
    run(out)
    run(whole)
    assert not state_folder(out).exists()
    assert [entry["step"] for entry in read_history(out)] == list(range(2 * STEPS_PER_EPOCH))
    assert history_path(out).read_text() == history_path(whole).read_text()
    found, expected = load_checkpoint(out), load_checkpoint(whole)
    assert found.provenance == expected.provenance
    assert all(np.array_equal(found.weights[name], value) for name, value in expected.weights.items())


def test_a_state_of_other_images_is_not_resumed(tmp_path):
    with pytest.raises(SystemExit):
        run(tmp_path / "a.safetensors", killed_at=3, minutes=0)
    with pytest.raises(CheckpointError, match="different images"):
        run(tmp_path / "a.safetensors", images="changed")
    run(tmp_path / "a.safetensors")


def test_training_again_keeps_the_old_results_until_the_new_ones_are_there(tmp_path):
    out = tmp_path / "a.safetensors"
    run(out)
    before = out.read_bytes(), history_path(out).read_bytes()
    with pytest.raises(SystemExit):
        run(out, killed_at=6)
    assert (out.read_bytes(), history_path(out).read_bytes()) == before


def test_a_run_that_was_killed_while_it_tidied_up_does_not_count_for_the_next(tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr("training.state.StateFolder.remove", lambda self: None)
        run(out)
    assert state_folder(out).exists()
    steps = []
    run(out, measured=staticmethod(lambda step: steps.append(step.number) or (1.0, 0.0, 1.0)))
    assert len(steps) == 2 * STEPS_PER_EPOCH


def test_a_run_that_was_killed_before_its_checkpoint_was_written_only_writes_it(tmp_path, monkeypatch):
    out = tmp_path / "a.safetensors"
    with monkeypatch.context() as patched, pytest.raises(SystemExit):

        def killed(*_):
            raise SystemExit

        patched.setattr("training.loop.save_checkpoint", killed)
        run(out)
    assert not out.exists()
    steps = []
    run(out, measured=staticmethod(lambda step: steps.append(step.number) or (1.0, 0.0, 1.0)))
    assert out.exists()
    assert steps == []


@pytest.mark.parametrize("measured", [(np.nan, 0, 1), (np.inf, 0, 1), (1.0, 0, np.nan), (1.0, 0, np.inf), (35.0, 0, 1)])
def test_a_training_that_diverges_stops_with_the_step_and_the_files(tmp_path, measured):
    def diverges(step):
        return measured if step.number == 5 else (1.0, 0.0, 1.0)

    with pytest.raises(
        CheckpointError,
        match=r"at step 5 \(learning rate 0\.0.*margin 0\.1, 32 px\).*step 4 is kept.*1-1-0\.jpg, 1-1-1\.jpg",
    ):
        run(tmp_path / "a.safetensors", measured=staticmethod(diverges))
    assert json.loads((state_folder(tmp_path / "a.safetensors") / "manifest.json").read_text())["step"] == 4
