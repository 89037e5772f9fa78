"""The tensors of a training's state: a safetensors file per process, to be read by any number of processes.

Most tensors are the same in every process, and only process 0 writes them. A tensor that is cut by its first axis is
written by all of them, each its own rows; the header says which rows these are. Besides, a process may have tensors of
its own, such as its BatchNorm statistics.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from zoo.checkpoint import shown
from zoo.errors import CheckpointError
from zoo.limits import TEXT_BYTES, require_at_most
from zoo.tensors import Layout, read_layouts, read_rows, write_tensors
from zoo.text import parse_json
from zoo.weights import Shape

_OWN = "own/"
"""Begins the names of a process's own tensors in the file."""
_CUTS = "cuts"
_TYPES = {"F32": np.float32, "F64": np.float64}
"""A training computes in float32; tests do in float64."""


@dataclass(frozen=True)
class Cut:
    """The rows `start` to `stop` (exclusive) of a tensor that has `total` rows over all processes."""

    start: int
    stop: int
    total: int


@dataclass(frozen=True)
class Shard:
    """The header of a process's file.

    Attributes:
        path: the file.
        layouts: of all its tensors, by their names in the file.
        cuts: the rows that it has of each cut tensor.
    """

    path: Path
    layouts: dict[str, Layout]
    cuts: dict[str, Cut]

    def shared(self) -> dict[str, Layout]:
        """The layouts of the tensors that are not the process's own."""
        return {name: layout for name, layout in self.layouts.items() if not name.startswith(_OWN)}

    def rows(self, name: str) -> Cut:
        """The rows that it has of a tensor. One without axes counts as one row."""
        shape = self.layouts[name].shape
        count = shape[0] if shape else 1
        return self.cuts.get(name, Cut(0, count, count))

    def shape(self, name: str) -> Shape:
        """The shape of a tensor over all processes."""
        shape = self.layouts[name].shape
        return (self.cuts[name].total, *shape[1:]) if name in self.cuts else shape


def write_shard(
    path: Path,
    origin: Mapping[str, str],
    tensors: Mapping[str, np.ndarray],
    cuts: Mapping[str, Cut],
    own: Mapping[str, np.ndarray],
) -> None:
    """Writes the file of a process atomically.

    Args:
        path: the file.
        origin: which step, process and run it belongs to; `read_shard` asks for the same.
        tensors: float32 or float64 arrays by name; of a cut tensor, the process's rows.
        cuts: which rows these are.
        own: arrays by name that only this process has.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    for name, cut in cuts.items():
        if not 0 <= cut.start <= cut.stop <= cut.total or len(tensors[name]) != cut.stop - cut.start:
            raise ValueError(f"{name} has {len(tensors[name])} rows, which are not those of {cut}")
    if reserved := [name for name in tensors if name.startswith(_OWN)]:
        raise ValueError(f"the name {reserved[0]!r} begins with {_OWN!r}")
    ranges = json.dumps({name: astuple(cut) for name, cut in cuts.items()})
    write_tensors(path, {**tensors, **{_OWN + name: value for name, value in own.items()}}, {**origin, _CUTS: ranges})


def read_shard(path: Path, origin: Mapping[str, str], advice: str) -> Shard:
    """The checked header of a process's file; no tensor is read.

    Raises:
        CheckpointError: it is unreadable, belongs to another step, process or run, or its row ranges do not fit its
            tensors. The message ends with `advice`.
    """
    layouts, header = read_layouts(path, advice=advice)
    if differing := [key for key, value in origin.items() if header.get(key) != value]:
        raise CheckpointError(
            f"{path} is the state of another run, step or process (different {' and '.join(differing)}). {advice}"
        )
    return Shard(path, layouts, _read_cuts(path, header.get(_CUTS, ""), layouts, advice))


def _read_cuts(path: Path, text: str, layouts: Mapping[str, Layout], advice: str) -> dict[str, Cut]:
    require_at_most(TEXT_BYTES, len(text), "characters of row ranges", path, CheckpointError)
    ranges = parse_json(text, f"{path}: its row ranges", error=CheckpointError, advice=advice)
    if not isinstance(ranges, dict):
        raise CheckpointError(f"{path}: its row ranges are no mapping. {advice}")
    cuts = {}
    for name, numbers in ranges.items():
        shape = layouts[name].shape if name in layouts else ()
        if not isinstance(numbers, list) or len(numbers) != 3 or not all(type(number) is int for number in numbers):
            raise CheckpointError(
                f"{path}: expected three numbers for the rows of {name}, found {numbers!r:.80}. {advice}"
            )
        cut = Cut(*numbers)
        if not shape or not 0 <= cut.start <= cut.stop <= cut.total or shape[0] != cut.stop - cut.start:
            raise CheckpointError(f"{path}: {cut} cannot be the rows of {name}, found {list(shape)}. {advice}")
        cuts[name] = cut
    return cuts


def join(
    where: Path, shards: Sequence[Shard], shapes: Mapping[str, Shape], cuts: Mapping[str, Cut], advice: str
) -> dict[str, np.ndarray]:
    """Tensors out of the shards of all processes, for a process of a run that may have another number of them.

    Args:
        where: the folder, for errors.
        shards: of all processes that wrote.
        shapes: of all tensors by name; of a cut tensor, that of all processes together.
        cuts: the rows to read. No others are read; of a tensor that has no cut, all are.
        advice: the last sentence of errors.

    Returns:
        Arrays by name, in the order of `shapes`.

    Raises:
        CheckpointError: names, shapes or types differ from the expected ones, rows are missing or occur twice, or
            values are not finite.
    """
    for name, cut in cuts.items():
        if not 0 <= cut.start <= cut.stop <= cut.total or cut.total != shapes[name][0]:
            raise ValueError(f"{cut} cannot be rows of {name} {list(shapes[name])}")
    _require_none(where, list(_differences(shards, shapes)), advice)
    arrays: dict[str, np.ndarray] = {}
    for shard in shards:
        for name, (place, value) in _read_wanted(shard, cuts, advice).items():
            count = cuts[name].stop - cuts[name].start if name in cuts else shard.rows(name).total
            if not value.ndim or len(value) == count:  # one shard has them all
                arrays[name] = value
                continue
            if name not in arrays:
                arrays[name] = np.empty((count, *value.shape[1:]), value.dtype)
            arrays[name][place : place + len(value)] = value
    _require_none(where, list(_not_finite(arrays)), advice)
    return {name: arrays[name] for name in shapes}


def read_own(shard: Shard, advice: str) -> dict[str, np.ndarray]:
    """A process's own tensors by name. Their names and shapes are the caller's to check.

    Raises:
        CheckpointError: one is neither float32 nor float64, or not finite.
    """
    names = [name for name in shard.layouts if name.startswith(_OWN)]
    wrong = [f"! {name}: {fault}" for name in names if (fault := _wrong_type({shard.layouts[name].type}))]
    _require_none(shard.path, wrong, advice)
    arrays = read_rows(shard.path, dict.fromkeys(names, slice(None)), advice=advice)
    _require_none(shard.path, list(_not_finite(arrays)), advice)
    return {name.removeprefix(_OWN): value for name, value in arrays.items()}


def _read_wanted(shard: Shard, cuts: Mapping[str, Cut], advice: str) -> dict[str, tuple[int, np.ndarray]]:
    """The wanted rows that a shard has, by name: where they begin among the wanted ones, and the rows."""
    found, places, rows = {}, {}, {}
    for name, layout in shard.shared().items():
        there = shard.rows(name)
        wanted = cuts.get(name, Cut(0, there.total, there.total))
        start, stop = max(there.start, wanted.start), min(there.stop, wanted.stop)
        if wanted.start == wanted.stop:  # safetensors cannot read no rows
            found[name] = 0, np.empty((0, *layout.shape[1:]), _TYPES[layout.type])
        elif start < stop:
            whole = (start, stop) == (there.start, there.stop)
            rows[name] = slice(None) if whole else slice(start - there.start, stop - there.start)
            places[name] = start - wanted.start
    read = read_rows(shard.path, rows, advice=advice)
    return found | {name: (places[name], value) for name, value in read.items()}


def _differences(shards: Sequence[Shard], shapes: Mapping[str, Shape]) -> Iterator[str]:
    """One line per tensor that the shards do not have as expected, as `zoo.checkpoint.differences`."""
    holders: dict[str, list[Shard]] = {}
    for shard in shards:
        for name in shard.shared():
            holders.setdefault(name, []).append(shard)
    yield from (f"- {name} {list(shape)} is missing" for name, shape in shapes.items() if name not in holders)
    for name, found in holders.items():
        if name not in shapes:
            yield f"+ {name} {list(found[0].shape(name))} is not part of this run"
        elif wrong := [shape for shard in found if (shape := shard.shape(name)) != tuple(shapes[name])]:
            yield f"! {name}: expected {list(shapes[name])}, found {list(wrong[0])}"
        elif fault := _wrong_type({shard.layouts[name].type for shard in found}) or _wrong_rows(
            [shard.rows(name) for shard in found]
        ):
            yield f"! {name}: {fault}"


def _wrong_type(types: set[str]) -> str | None:
    if len(types) == 1 and types <= _TYPES.keys():
        return None
    return f"expected {' or '.join(_TYPES)}, found {' and '.join(sorted(types))}"


def _wrong_rows(cuts: Sequence[Cut]) -> str | None:
    """Why ranges are not each row once, or None."""
    end = 0
    for cut in sorted(cuts, key=lambda cut: (cut.start, cut.stop)):
        if cut.start > end:
            return f"no shard has the rows {end} to {cut.start}"
        if cut.start < end:
            return f"two shards have the rows from {cut.start}"
        end = cut.stop
    return f"no shard has the rows {end} to {cuts[0].total}" if end < cuts[0].total else None


def _not_finite(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, value in arrays.items():
        if count := np.count_nonzero(~np.isfinite(value)):
            yield f"! {name} contains {count} values that are not finite (NaN or infinity)"


def _require_none(where: Path, found: list[str], advice: str) -> None:
    if found:
        raise CheckpointError(f"{where} is not a sound state of this run:\n  {shown(found)}\n{advice}")
