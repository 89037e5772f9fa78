"""The state of a training run on disk, from which it resumes, and the history of its steps.

The state is a safetensors file that is replaced atomically; its header does not grow with the number of steps. The
history is an append-only file with one JSON object per line. A run may therefore have any number of steps.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.recipes import Step
from zoo.errors import CheckpointError
from zoo.files import output_errors
from zoo.tensors import read_tensors, write_tensors

MOMENTUM = "momentum:"
_STEPS = "steps"


@dataclasses.dataclass(frozen=True)
class State:
    """The tensors of a run after a number of steps.

    Attributes:
        steps: finished steps.
        weights: float32 arrays by canonical name, class weights included.
        momentum: SGD's momentum of each trained tensor, by the same names.
    """

    steps: int
    weights: dict[str, np.ndarray]
    momentum: dict[str, np.ndarray]


def save_state(path: Path, state: State, identity: Mapping[str, str]) -> None:
    """Writes a state atomically. `identity` identifies the run: recipe, model, data and framework.

    Raises:
        OutputError: the disk is full or the folder cannot be written; the last state is kept.
    """
    tensors = state.weights | {MOMENTUM + name: value for name, value in state.momentum.items()}
    write_tensors(path, tensors, {**identity, _STEPS: str(state.steps)})


def load_state(path: Path, identity: Mapping[str, str]) -> State:
    """Reads the state of the run that `identity` describes.

    Raises:
        CheckpointError: the file is unreadable, or belongs to another run.
    """
    tensors, header = read_tensors(path)
    differing = [key for key, value in identity.items() if header.get(key) != value]
    if differing or not header.get(_STEPS, "").isdecimal():
        what = f"different {' and '.join(differing)}" if differing else "written by an older version of this program"
        raise CheckpointError(
            f"{path} is the state of another run ({what}). Remove it to start again, or choose another --out."
        )
    weights = {name: value for name, value in tensors.items() if not name.startswith(MOMENTUM)}
    momentum = {name.removeprefix(MOMENTUM): v for name, v in tensors.items() if name.startswith(MOMENTUM)}
    return State(int(header[_STEPS]), weights, momentum)


class History:
    """The history of a run, open for appending: one JSON object per line of `<out>.history.jsonl`.

    Args:
        path: the file. It is cut to `steps` lines, because later steps are computed again.
        steps: finished steps.

    Raises:
        CheckpointError: the file has fewer than `steps` complete lines.
        OutputError: the folder or the file cannot be written.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by close)
        for number in range(steps):
            if not self._file.readline().endswith(b"\n"):
                self._file.close()
                raise CheckpointError(
                    f"{path} has {number} steps, but the state beside it has {steps}. Restore the history, or remove the state "
                    "to start again."
                )
        self._file.truncate(self._file.tell())

    def add(self, step: Step, loss: float, accuracy: float) -> None:
        """Appends a step. It is safe on disk only after `sync`."""
        entry = {"step": step.number, "stage": step.stage, "resolution": step.resolution, "margin": step.margin}
        entry |= {"learning_rate": step.learning_rate, "loss": loss, "accuracy": accuracy}
        with output_errors(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")

    def sync(self) -> None:
        """Flushes all lines to disk. To be called before a state that includes these steps is saved."""
        with output_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        with output_errors(self._path):
            self._file.close()


def history_path(checkpoint: Path) -> Path:
    """The history file of the run that writes a checkpoint: `<name>.history.jsonl` beside it."""
    return checkpoint.with_suffix(".history.jsonl")


def state_path(checkpoint: Path) -> Path:
    """The state file of the run that writes a checkpoint: `<name>.state.safetensors` beside it."""
    return checkpoint.with_suffix(".state.safetensors")


def read_history(checkpoint: Path) -> list[dict]:
    """All steps of the run that wrote a checkpoint, as dicts.

    The keys are `step`, `stage`, `resolution`, `margin`, `learning_rate`, `loss` and `accuracy`.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = history_path(checkpoint)
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable training history: {error}. Train again to write it."
        ) from error
