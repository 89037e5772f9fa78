"""The loop resumes a run where its state was saved; a finished run is not overwritten."""

from pathlib import Path

import numpy as np
import pytest

from training import loop
from training.history import history_path, read_history
from training.loop import fit, require_new
from training.recipes import Recipe, Stage
from zoo.checkpoint import load_checkpoint
from zoo.errors import CheckpointError, OutputError
from zoo.tensors import read_header
from zoo.weights import is_buffer


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
