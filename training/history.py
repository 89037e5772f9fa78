"""The history of a training run: a table with one line per step, to which a line is appended and which may have any length.

While the run is unfinished, it lies in the folder of the state (`training.state`); then it is `<out>.history.csv`.
"""

import collections
import contextlib
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from training.state import HISTORY, RESTART, WAIT_SECONDS, state_folder
from zoo.claims import claimed
from zoo.disk import output_errors
from zoo.errors import CheckpointError
from zoo.files import new_file
from zoo.inputs import require_file

_WHOLE = ("step", "stage", "epoch", "resolution")
COLUMNS = (*_WHOLE, "margin", "learning_rate", "loss", "accuracy", "gradient_norm")
"""Four whole numbers, and five that are written so that they come back exactly."""
LINE = 1_000
"""Bytes of a line of a history, which has about 120."""
_TITLES = ",".join(COLUMNS).encode() + b"\n"
_AGAIN = "Train again to write it."


def _line(number: bytes, last: bytes) -> re.Pattern[bytes]:
    floats = len(COLUMNS) - len(_WHOLE) - 1
    return re.compile(b"(" + b"),(".join([rb"[0-9]{1,18}+"] * len(_WHOLE) + [number] * floats + [last]) + b")\n")


_NUMBER = rb"-?[0-9]++(?:\.[0-9]++)?+(?:e[+-]?[0-9]{1,3}+)?+"
_ANY = _line(_NUMBER, _NUMBER + b"|inf|nan")
"""A line. A skipped step of mixed precision has a gradient that is not finite."""
_USUAL_NUMBER = rb"-?[0-9]{1,20}+(?:\.[0-9]{1,20}+)?+(?:e[+-]?[0-9]{1,2}+)?+"
_USUAL = _line(_USUAL_NUMBER, _USUAL_NUMBER)
"""A line whose numbers are finite, whatever they are, so that they need not be converted to know that."""


class Step(Protocol):
    """What the history records of a step (`training.schedule.Step`)."""

    @property
    def number(self) -> int: ...
    @property
    def stage(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def resolution(self) -> int: ...
    @property
    def margin(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...


class History:
    """The history of an unfinished run, open for appending.

    Args:
        path: the file (`training.state.StateFolder.history`). It is cut to `steps` lines, because later steps are
            computed again.
        steps: finished steps.
        last: how many losses to remember.

    Attributes:
        losses: of the last steps.

    Raises:
        CheckpointError: the file has fewer than `steps` complete lines, or one of them is damaged.
        OutputError: the folder or the file cannot be written, or another process trains to the same checkpoint.
    """

    def __init__(self, path: Path, steps: int, last: int = 1) -> None:
        self._path = path
        self.losses: collections.deque[float] = collections.deque(maxlen=last)
        self._held = contextlib.ExitStack()
        self._held.enter_context(claimed(path, wait=WAIT_SECONDS))
        with self._held:
            with output_errors(path):
                self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 (closed by close)
            self._held.callback(self._file.close)
            if steps:
                self._check(steps)
            with output_errors(path):
                self._file.truncate(self._file.tell())
                if not steps:
                    self._file.write(_TITLES)
            self._held = self._held.pop_all()  # nothing failed, so it stays open

    def _check(self, steps: int) -> None:
        """Reads the lines that are kept: a damaged one is found before hours of training are added to it."""
        advice = RESTART.format(self._path.parent)
        _require_titles(self._file, self._path, advice)
        recent: collections.deque[bytes] = collections.deque(maxlen=self.losses.maxlen)
        for number in range(steps):
            line = self._file.readline(LINE + 1)
            if not line.endswith(b"\n"):
                raise CheckpointError(f"{self._path} has {number} steps, but the state beside it has {steps}. {advice}")
            usual = _USUAL.fullmatch(line)
            if usual is None or int(usual[1]) != number:
                _entry(line, number, self._path, advice)
            recent.append(line)
        first = steps - len(recent)
        self.losses.extend(_entry(line, first + n, self._path, advice)["loss"] for n, line in enumerate(recent))

    def add(self, step: Step, loss: float, accuracy: float, gradient_norm: float) -> None:
        """Appends a step. It is safe on disk only after `sync`.

        Args:
            step: the step.
            loss: of its batch, finite.
            accuracy: the share of the batch that was classified correctly.
            gradient_norm: before clipping; infinite or NaN if the step was skipped.
        """
        whole = (step.number, step.stage, step.epoch, step.resolution)
        numbers = (step.margin, step.learning_rate, loss, accuracy, gradient_norm)
        line = ",".join([*(str(int(value)) for value in whole), *(repr(float(value)) for value in numbers)])
        self.losses.append(float(loss))
        with output_errors(self._path):
            self._file.write(line.encode() + b"\n")

    def sync(self) -> None:
        """Flushes all lines to disk. To be called before a state that includes these steps is saved."""
        with output_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        with output_errors(self._path):
            self._held.close()


def history_path(checkpoint: Path) -> Path:
    """The history of the finished run that wrote a checkpoint: `<name>.history.csv` beside it."""
    return checkpoint.with_suffix(".history.csv")


def finish_history(checkpoint: Path) -> None:
    """Copies the history of a run, which has been closed, from the folder of its state to `history_path`, atomically.

    It is removed with the state (`training.state.StateFolder.remove`): until the checkpoint is written, the run can be
    resumed.

    Raises:
        CheckpointError: somebody removed it.
        OutputError: the disk is full or the folder cannot be written.
    """
    unfinished = state_folder(checkpoint) / HISTORY
    require_file(unfinished, "the history of this training", CheckpointError, RESTART.format(unfinished.parent))
    with new_file(history_path(checkpoint)) as partial:
        shutil.copyfile(unfinished, partial)


def read_history(checkpoint: Path) -> list[dict]:
    """All steps of the run that wrote a checkpoint, as {column: number}.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = history_path(checkpoint)
    require_file(path, "a training history", CheckpointError, _AGAIN)
    try:
        with open(path, "rb") as file:
            _require_titles(file, path, _AGAIN)
            return [_entry(line, number, path, _AGAIN) for number, line in enumerate(_lines(file))]
    except OSError as error:
        raise CheckpointError(f"{path} is not a readable training history: {error}. {_AGAIN}") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines, cut to a little more than what one may have."""
    while line := file.readline(LINE + 1):
        yield line


def _require_titles(file: BinaryIO, path: Path, advice: str) -> None:
    if (found := file.readline(LINE + 1)) != _TITLES:
        raise CheckpointError(f"{path}, line 1: expected {_TITLES.decode()[:-1]!r}, found {found[:80]!r}. {advice}")


def _entry(line: bytes, step: int, path: Path, advice: str) -> dict[str, float]:
    """A step's numbers by column.

    Raises:
        CheckpointError: something else, or another step.
    """
    where = f"{path}, line {step + 2}"
    match = _ANY.fullmatch(line) if len(line) <= LINE else None
    if match is None:
        raise CheckpointError(f"{where}: expected numbers of {', '.join(COLUMNS)}, found {line[:80]!r}. {advice}")
    values = dict(zip(COLUMNS, match.groups(), strict=True))
    entry = {name: int(value) if name in _WHOLE else float(value) for name, value in values.items()}
    if entry["step"] != step:
        raise CheckpointError(f"{where}: expected step {step}, found {entry['step']}. {advice}")
    if infinite := [name for name in COLUMNS[:-1] if not math.isfinite(entry[name])]:
        raise CheckpointError(f"{where}: expected a finite {infinite[0]}, found {entry[infinite[0]]}. {advice}")
    return entry
