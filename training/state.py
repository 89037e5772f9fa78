"""What a run leaves on the disk while it trains: the tensors that it goes on from, and the history of its steps.

The state is a safetensors file that is replaced atomically; its header has a fixed size. The history is a file of JSON lines
that only grows, so a run may have any number of steps.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.recipes import Step
from zoo.errors import CheckpointError
from zoo.tensors import read_tensors, write_tensors

MOMENTUM = "momentum:"
_STEPS = "steps"


@dataclasses.dataclass(frozen=True)
class State:
    """The tensors after a number of steps.

    Attributes:
        steps: finished steps.
        weights: float32 arrays by canonical name, class weights included.
        momentum: SGD's momentum of each parameter, by the same names.
    """

    steps: int
    weights: dict[str, np.ndarray]
    momentum: dict[str, np.ndarray]


def save_state(path: Path, state: State, identity: Mapping[str, str]) -> None:
    """Writes a state atomically; `identity` says which run it belongs to.

    Raises:
        OutputError: the disk is full or the folder cannot be written; the last state is kept.
    """
    tensors = state.weights | {MOMENTUM + name: value for name, value in state.momentum.items()}
    write_tensors(path, tensors, {**identity, _STEPS: str(state.steps)})


def load_state(path: Path, identity: Mapping[str, str]) -> State:
    """Reads the state of the run that `identity` describes.

    Raises:
        CheckpointError: the file is unreadable, or it is another run's.
    """
    tensors, header = read_tensors(path)
    differing = [key for key, value in identity.items() if header.get(key) != value]
    if differing or not header.get(_STEPS, "").isdecimal():
        what = f"its {' and '.join(differing)} differ" if differing else "an older version of this program wrote it"
        raise CheckpointError(
            f"{path} is the state of another run ({what}). Remove it to start from the beginning, or choose another --out."
        )
    weights = {name: value for name, value in tensors.items() if not name.startswith(MOMENTUM)}
    momentum = {name.removeprefix(MOMENTUM): v for name, v in tensors.items() if name.startswith(MOMENTUM)}
    return State(int(header[_STEPS]), weights, momentum)


class History:
    """The steps of a run, one JSON object per line of `<out>.history.jsonl`.

    Args:
        path: the file; what it holds beyond `steps` lines is cut off, for those steps are computed again.
        steps: finished steps.

    Raises:
        CheckpointError: the file holds fewer than `steps` steps.
    """

    def __init__(self, path: Path, steps: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by close)
        for number in range(steps):
            if not self._file.readline().endswith(b"\n"):
                self._file.close()
                raise CheckpointError(
                    f"{path} has {number} steps, and the state beside it is of {steps}. Remove the state to start from the "
                    "beginning, or restore the history."
                )
        self._file.truncate(self._file.tell())

    def add(self, step: Step, loss: float, accuracy: float) -> None:
        """Appends one step; it is on the disk after `sync`."""
        entry = {"step": step.number, "stage": step.stage, "resolution": step.resolution, "margin": step.margin}
        entry |= {"learning_rate": step.learning_rate, "loss": loss, "accuracy": accuracy}
        self._file.write(json.dumps(entry).encode() + b"\n")

    def sync(self) -> None:
        """Makes every line durable: before the state that counts on them is written."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def history_path(checkpoint: Path) -> Path:
    """Where the history of a checkpoint's run is: `<name>.history.jsonl` beside it."""
    return checkpoint.with_suffix(".history.jsonl")


def state_path(checkpoint: Path) -> Path:
    """Where the state of a run that makes a checkpoint is: `<name>.state.safetensors` beside it."""
    return checkpoint.with_suffix(".state.safetensors")


def read_history(checkpoint: Path) -> list[dict]:
    """Every step of a checkpoint's run: `step`, `stage`, `resolution`, `margin`, `learning_rate`, `loss`, `accuracy`.

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
