"""The state of a training run on disk, from which it resumes, and the history of its steps.

The state is a safetensors file that is replaced atomically; its header does not grow with the number of steps. The
history is an append-only file with one JSON object per line. A run may therefore have any number of steps.
"""

import collections
import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import numpy as np

from training.schedule import Step
from zoo.checkpoint import differences, shown, unusable
from zoo.claims import claimed
from zoo.errors import CheckpointError
from zoo.files import output_errors
from zoo.inputs import require_file
from zoo.limits import DIGITS
from zoo.tensors import read_tensors, write_tensors
from zoo.text import parse_json
from zoo.weights import Shape

MOMENTUM = "momentum:"
_STEPS = "steps"
_KEYS = {"step", "stage", "resolution", "margin", "learning_rate", "loss", "accuracy"}
LINE = 10_000
"""Characters of a line of a history, which has about 150."""
WAIT_SECONDS = 60.0
"""How long a training waits for one that was just interrupted and is saving its state."""
RESTART = "Remove {} to start again from the first step, restore it from a copy, or choose another --out."
"""What to do about a state that cannot be used. Nothing is removed without being asked for."""


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


def load_state(path: Path, identity: Mapping[str, str], shapes: Mapping[str, Shape]) -> State:
    """Reads the state of the run that `identity` describes.

    Args:
        path: the file.
        identity: recipe, model, data and framework.
        shapes: of the run's tensors by canonical name.

    Raises:
        CheckpointError: the file is unreadable, belongs to another run, or its tensors are not those of the run or not finite.
    """
    tensors, header = read_tensors(path, advice=RESTART.format(path))
    differing = [key for key, value in identity.items() if header.get(key) != value]
    steps = header.get(_STEPS, "")
    if differing or not (steps.isascii() and steps.isdecimal() and len(steps) < DIGITS):
        what = f"different {' and '.join(differing)}" if differing else "written by an older version of this program"
        raise CheckpointError(f"{path} is the state of another run ({what}). {RESTART.format(path)}")
    weights = {name: value for name, value in tensors.items() if not name.startswith(MOMENTUM)}
    momentum = {name.removeprefix(MOMENTUM): v for name, v in tensors.items() if name.startswith(MOMENTUM)}
    found = differences(dict(shapes), weights)
    found += [line for line in differences(dict(shapes), momentum) if not line.startswith("-")]
    found += [f"! {name} {reason}" for name, value in tensors.items() if (reason := unusable(name, value))]
    if found:
        raise CheckpointError(f"{path} is not a sound state of this run:\n  {shown(found)}\n{RESTART.format(path)}")
    return State(int(steps), weights, momentum)


class History:
    """The history of a run, open for appending: one JSON object per line of `<out>.history.jsonl`.

    Args:
        path: the file. It is cut to `steps` lines, because later steps are computed again.
        steps: finished steps.
        last: how many losses to remember.

    Attributes:
        losses: of the last steps.

    Raises:
        CheckpointError: the file has fewer than `steps` complete lines.
        OutputError: the folder or the file cannot be written, or another process trains to the same checkpoint.
    """

    def __init__(self, path: Path, steps: int, last: int = 1) -> None:
        self._path = path
        self.losses: collections.deque[float] = collections.deque(maxlen=last)
        self._held = contextlib.ExitStack()
        self._held.enter_context(claimed(path, wait=WAIT_SECONDS))
        with output_errors(path):
            self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by close)
        try:
            self._check(steps)
        except BaseException:
            self.close()
            raise
        self._file.truncate(self._file.tell())

    def _check(self, steps: int) -> None:
        """Reads the lines that are kept: a damaged one is found before hours of training are added to it."""
        advice = "Restore the history, or remove the state beside it to start again."
        for number in range(steps):
            line = self._file.readline(LINE + 1)
            if not line.endswith(b"\n"):
                raise CheckpointError(f"{self._path} has {number} steps, but the state beside it has {steps}. {advice}")
            where = f"{self._path}, line {number + 1}"
            entry = _entry(line, where, advice)
            if (found := entry["step"]) != number:
                raise CheckpointError(f"{where}: expected step {number}, found {found}. {advice}")
            self.losses.append(entry["loss"])

    def add(self, step: Step, loss: float, accuracy: float) -> None:
        """Appends a step. It is safe on disk only after `sync`."""
        entry = {"step": step.number, "stage": step.stage, "resolution": step.resolution, "margin": step.margin}
        entry |= {"learning_rate": step.learning_rate, "loss": loss, "accuracy": accuracy}
        self.losses.append(loss)
        with output_errors(self._path):
            self._file.write(json.dumps(entry).encode() + b"\n")

    def sync(self) -> None:
        """Flushes all lines to disk. To be called before a state that includes these steps is saved."""
        with output_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        with self._held, output_errors(self._path):
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
    require_file(path, "a training history", CheckpointError, "Train again to write it.")
    try:
        with open(path, encoding="utf-8") as file:
            return [_entry(line, f"{path}, line {number}") for number, line in enumerate(_lines(file), start=1)]
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable training history: {error}. Train again to write it."
        ) from error


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a history, none longer than `LINE`."""
    while line := file.readline(LINE + 1):
        if len(line) > LINE:
            raise ValueError(f"a line is longer than {LINE} characters")
        yield line


def _entry(line: str | bytes, where: str, advice: str = "Train again to write it.") -> dict:
    """A step's numbers by name.

    Raises:
        CheckpointError: something else.
    """
    entry = parse_json(line, where, error=CheckpointError, advice=advice)
    if (
        not isinstance(entry, dict)
        or set(entry) != _KEYS
        or not all(type(value) in (int, float) for value in entry.values())
    ):
        raise CheckpointError(
            f"{where}: expected numbers of {', '.join(sorted(_KEYS))}, found {str(line[:80])!r}. {advice}"
        )
    return entry
