"""The state of a training run on disk, from which it resumes: `<out>.state/` beside the checkpoint.

    manifest.json                  the step, the run, and the shards that belong to it
    <step>-<process>.safetensors   the tensors of each process (`training.shards`)
    history.csv                    one line per step (`training.history`)

The processes write their shards, and then one of them replaces the manifest, which makes them the state. The old shards
are removed afterwards, so that the last state is readable whenever the processes are killed or the disk is full. Nothing
here grows with the number of steps.

A shard is checked by its size, its header and its values, but not by a hash: it was on the disk before the manifest named
it, so that it cannot be a part of itself, and reading back gigabytes at every save would cost more than training does.
"""

import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from training.shards import Cut, join, read_own, read_shard, write_shard
from zoo.claims import claimed, is_companion
from zoo.disk import output_errors
from zoo.errors import CheckpointError, OutputError, SpecError
from zoo.files import write_json
from zoo.inputs import no_file
from zoo.limits import PROCESSES, STEPS
from zoo.strict import NonNegativeInt, read_fields
from zoo.text import read_json
from zoo.weights import Shape

FORMAT = "landmark-zoo-training-state-1"
WAIT_SECONDS = 60.0
"""How long a training waits for one that was just interrupted and is saving its state."""
RESTART = "Remove {} to start again from the first step, restore it from a copy, or choose another --out."
"""What to do about a state that cannot be used. Nothing is removed without being asked for."""
HISTORY = "history.csv"
_MANIFEST = "manifest.json"
_SHARD = re.compile(r"([0-9]{1,13})-([0-9]{1,5})\.safetensors")
_COMPANION = re.compile(r"\.(.+\.(?:safetensors|json))\..+")


@dataclass(frozen=True)
class Entry:
    """A shard as the manifest names it.

    Attributes:
        name: of the file.
        size: in bytes.
    """

    name: str
    size: NonNegativeInt


@dataclass(frozen=True)
class Saved:
    """A state that is whole.

    Attributes:
        step: finished steps.
        shards: one per process that wrote it, in their order.
        numbers: small values of the run by name.
    """

    step: int
    shards: tuple[Entry, ...]
    numbers: dict[str, float]


@dataclass(frozen=True)
class _Manifest:
    """The file that names the shards."""

    format: str
    identity: dict[str, str]
    step: Annotated[int, Meta(ge=0, le=STEPS)]
    numbers: dict[str, float]
    shards: Annotated[list[Entry], Meta(min_length=1, max_length=PROCESSES)]


class StateFolder:
    """The folder that has all of an unfinished run. Process 0 of the run holds the claim of the checkpoint.

    Args:
        path: the folder; it is made when something is written.
        identity: what the run is: recipe, model, data, framework … A state of another identity is refused.

    Attributes:
        path: the folder.
        history: the file of the run's history in it.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path = path
        self.history = path / HISTORY
        self._identity = dict(identity)
        self._manifest = path / _MANIFEST
        self._advice = RESTART.format(path)

    def write(
        self,
        step: int,
        rank: int,
        tensors: Mapping[str, np.ndarray],
        cuts: Mapping[str, Cut],
        own: Mapping[str, np.ndarray],
    ) -> Entry:
        """Writes a process's shard; every process does. It belongs to the state only after `commit`.

        Args:
            step: finished steps, more than those of the last state.
            rank: the process, from 0.
            tensors: float32 or float64 arrays by name; of a cut tensor, the process's rows. Those that are not cut are
                written by process 0 only.
            cuts: which rows of the cut tensors the process has.
            own: arrays by name that differ between the processes without being cut.

        Raises:
            OutputError: the disk is full or the folder cannot be written; the last state is kept.
        """
        name = _shard_name(step, rank)
        if (found := self._read_manifest()) and name in {shard.name for shard in found.shards}:
            raise ValueError(f"step {step} is saved: writing its shards again could leave a mixture of both")
        kept = {key: value for key, value in tensors.items() if rank == 0 or key in cuts}
        write_shard(self.path / name, self._origin(step, rank), kept, cuts, own)
        with output_errors(self.path / name):
            return Entry(name, (self.path / name).stat().st_size)

    def commit(self, step: int, entries: Sequence[Entry], numbers: Mapping[str, float]) -> None:
        """Makes the shards of all processes the state, and removes the old ones. Only process 0 does.

        Args:
            step: finished steps.
            entries: what `write` returned in each process, in their order.
            numbers: small values of the run, finite, by name: the loss scale, the best score …

        Raises:
            OutputError: the disk is full, the folder cannot be written, or the processes wrote to different folders. The
                last state is kept.
        """
        if wrong := [name for name, value in numbers.items() if not math.isfinite(value)]:
            raise ValueError(f"{wrong[0]} is {numbers[wrong[0]]}, which is no number of JSON")
        for entry in entries:
            if why := self._unlike(entry):
                raise OutputError(
                    f"{self.path / entry.name} {why}. All processes must write to one folder, on a disk that they share: "
                    "choose another --out, then run the same command again."
                )
        manifest = _Manifest(FORMAT, self._identity, step, dict(numbers), list(entries))
        write_json(self._manifest, dataclasses.asdict(manifest))
        kept = {entry.name for entry in entries}
        # Another process may be writing the next step's already.
        self._remove(lambda name: (found := _step(name)) is not None and found <= step and name not in kept)

    def saved(self) -> Saved | None:
        """The last state, or None if there is none.

        Raises:
            CheckpointError: the manifest is damaged or belongs to another run, or a shard is missing or of another size.
        """
        manifest = self._read_manifest()
        if manifest is None:
            return None
        for entry in manifest.shards:
            if why := self._unlike(entry):
                raise CheckpointError(f"{self.path / entry.name} {why}, so the state is not whole. {self._advice}")
        return Saved(manifest.step, tuple(manifest.shards), manifest.numbers)

    def read(
        self, saved: Saved, rank: int, processes: int, shapes: Mapping[str, Shape], cuts: Mapping[str, Cut]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
        """The tensors of a state for a process. The number of processes may be another than that which wrote it.

        Args:
            saved: what `saved` returned.
            rank: the process, from 0.
            processes: how many there are now.
            shapes: of all tensors but the processes' own, by name; of a cut tensor, that over all processes.
            cuts: the rows of this process; it reads no others.

        Returns:
            The tensors by name, as they were written; and the process's own, whose names and shapes are not checked, or
            None if the number of processes has changed.

        Raises:
            CheckpointError: a shard is unreadable or belongs to another step, process or run, the tensors are not those of
                the run, rows are missing or occur twice, or a value is not finite.
        """
        shards = [
            read_shard(self.path / entry.name, self._origin(saved.step, number), self._advice)
            for number, entry in enumerate(saved.shards)
        ]
        tensors = join(self.path, shards, shapes, cuts, self._advice)
        own = read_own(shards[rank], self._advice) if processes == len(shards) else None
        return tensors, own

    def clean(self) -> None:
        """Removes what a killed process left: unfinished files, and shards that the manifest does not name.

        Only process 0 does, before the others write. Files of other names are left alone.

        Raises:
            CheckpointError: the manifest is damaged or belongs to another run. Nothing is removed.
            OutputError: another process trains here.
        """
        manifest = self._read_manifest()
        kept = {entry.name for entry in manifest.shards} if manifest else set()
        self._remove(lambda name: name not in kept and (_step(name) is not None or _is_unfinished(name)))

    def remove(self) -> None:
        """Removes the state of a run that is finished, its history included, and the folder if nothing else is in it.

        Raises:
            OutputError: the folder cannot be written, or another process trains here.
        """
        with output_errors(self.path):
            self._manifest.unlink(missing_ok=True)  # first: without it, the rest is no state
        self._remove(lambda name: name == HISTORY or _step(name) is not None or _is_unfinished(name))
        with suppress(OSError):  # it holds something else, or is a link
            self.path.rmdir()

    def _remove(self, chosen: Callable[[str], bool]) -> None:
        """Removes files by name while holding the history's claim, so that nobody is training here."""
        if not self.path.is_dir():
            return
        with claimed(self.history, wait=WAIT_SECONDS), output_errors(self.path):
            for path in [path for path in self.path.iterdir() if chosen(path.name)]:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def _unlike(self, entry: Entry) -> str | None:
        """Why a file is not the one that an entry names, or None."""
        path = self.path / entry.name
        if why := no_file(path):
            return why
        size = path.stat().st_size
        return f"has {size:,} bytes; expected {entry.size:,}" if size != entry.size else None

    def _read_manifest(self) -> _Manifest | None:
        """The manifest, if there is one, with the names that its shards must have."""
        try:
            self._manifest.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            pass  # read_json says why
        values = read_json(self._manifest, error=CheckpointError, advice=self._advice)
        found = values if isinstance(values, dict) else {}
        if found.get("format") != FORMAT:
            raise CheckpointError(
                f"{self._manifest} was not written by this version of the program: expected the format {FORMAT!r}, "
                f"found {found.get('format')!r:.80}. {self._advice}"
            )
        self._require_identity(found.get("identity"))
        try:
            manifest = read_fields(_Manifest, found, "manifest")
        except SpecError as error:
            raise CheckpointError(f"{self._manifest} is damaged: {error}. {self._advice}") from error
        for rank, entry in enumerate(manifest.shards):
            if entry.name != (expected := _shard_name(manifest.step, rank)):
                raise CheckpointError(
                    f"{self._manifest} is damaged: expected the shard {expected}, found {entry.name!r:.80}. {self._advice}"
                )
        return manifest

    def _require_identity(self, found: object) -> None:
        found = found if isinstance(found, dict) else {}
        keys = dict.fromkeys([*self._identity, *found])
        if differing := [key for key in keys if found.get(key) != self._identity.get(key)]:
            raise CheckpointError(
                f"{self.path} is the state of another run (different {' and '.join(differing)}). {self._advice}"
            )

    def _origin(self, step: int, rank: int) -> dict[str, str]:
        """What the header of a shard says of it. The hash stands for the identity, which has a whole model."""
        run = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        return {"format": FORMAT, "step": str(step), "rank": str(rank), "run": run}


def state_folder(checkpoint: Path) -> Path:
    """The folder of an unfinished run that will write a checkpoint: `<name>.state` beside it."""
    return checkpoint.with_suffix(".state")


def _shard_name(step: int, rank: int) -> str:
    return f"{step}-{rank}.safetensors"


def _step(name: str) -> int | None:
    """The step of a shard, None for another file."""
    found = _SHARD.fullmatch(name)
    return int(found[1]) if found else None


def _is_unfinished(name: str) -> bool:
    """Whether a file is a temporary one, or the lock, of a shard or of the manifest (`zoo.claims`)."""
    found = _COMPANION.fullmatch(name)
    if found is None or not (found[1] == _MANIFEST or _SHARD.fullmatch(found[1])):
        return False
    return is_companion(Path(found[1]), name)
