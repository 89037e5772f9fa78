"""The small files of a run's folder: what the run is about, its seconds, and the parity of its exports."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from retrieval.data.fingerprint import fingerprint
from retrieval.data.gldv2 import SPLITS, Gldv2
from training.recipes import Recipe
from zoo.claims import is_companion
from zoo.errors import OutputError, SpecError
from zoo.files import write_json
from zoo.manifest import ParityRow
from zoo.strict import NonNegative, read_fields
from zoo.text import read_json

RUN, SECONDS, PARITY = "run.json", "seconds.json", "parity.json"
CHECKPOINTS = "checkpoints"
"""The folder of a run's trained models."""


@dataclass(frozen=True)
class Identity:
    """What decides a run's results: its finished steps are reused only by a run with the same.

    Attributes:
        recipe: digest of the recipe.
        data: path of the data set, or "demo".
        images: fingerprint of each split (`retrieval.data.fingerprint`); empty if the run renders its own images.
    """

    recipe: str
    data: str
    images: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """The seconds of each step and the largest memory in MiB."""

    seconds: dict[str, NonNegative] = field(default_factory=dict)
    peak_rss_mib: NonNegative = 0.0


@dataclass(frozen=True)
class _ParityFile:
    rows: list[ParityRow]


def identify(recipe: Recipe, data: Path | None) -> Identity:
    """The identity of a run. Reads the tables and the size of every image.

    Raises:
        DataError: `data` is not a data set with all its tables.
    """
    if data is None:
        return Identity(recipe.digest, "demo")
    dataset = Gldv2(data)
    return Identity(recipe.digest, str(data), {split: fingerprint(dataset, split) for split in SPLITS})


def claim(out: Path, identity: Identity) -> None:
    """Marks `out` as a run's, so that its finished steps can be reused.

    Raises:
        OutputError: `out` holds something else, or a run with another recipe or other data, or whose images have changed.
    """
    mark = out / RUN
    if not mark.is_file():
        if out.exists() and any(not is_companion(mark, path.name) for path in out.iterdir()):
            raise OutputError(f"{out} already holds something that is not a run. Choose another --out.")
        write_json(mark, dataclasses.asdict(identity))
        return
    found = _read(Identity, mark, "Choose another --out, or remove this folder.")
    changed = [name for name in ("recipe", "data") if getattr(found, name) != getattr(identity, name)]
    if changed:
        raise OutputError(
            f"{out} holds a run with another {' and '.join(changed)}. Choose another --out, or remove it."
        )
    if splits := [split for split in identity.images if found.images.get(split) != identity.images[split]]:
        raise OutputError(
            f"{out} holds a run on other images: the {' and '.join(splits)} split of {identity.data} has changed since it began, so "
            "its finished steps say nothing of the images there now. Choose another --out, or remove it."
        )


def require_own_images(out: Path, dataset: Gldv2) -> None:
    """Remembers the images that a run has rendered for itself, or compares them with what it remembers.

    Raises:
        OutputError: they have changed since, or there are checkpoints and nothing says what they were trained on.
    """
    mark = out / RUN
    found = _read(Identity, mark, "Choose another --out, or remove this folder.")
    images = {split: fingerprint(dataset, split) for split in SPLITS}
    if not found.images and any((out / CHECKPOINTS).glob("*.safetensors")):
        raise OutputError(
            f"{mark} does not say which images the checkpoints beside it were trained on, as runs of version 0.1 do "
            "not. Choose another --out, or remove this folder."
        )
    if not found.images:
        write_json(mark, dataclasses.asdict(dataclasses.replace(found, images=images)))
    elif found.images != images:
        raise OutputError(
            f"{out} holds a run on other images: {dataset.root} has changed since. Remove {out} to begin anew."
        )


def read_cost(folder: Path) -> Cost:
    """What earlier starts of a run cost; nothing if it is new.

    Raises:
        OutputError: the file is damaged.
    """
    path = folder / SECONDS
    return _read(Cost, path, "Remove it: only the times of finished steps are lost.") if path.is_file() else Cost()


def write_cost(folder: Path, cost: Cost) -> None:
    """Keeps it for the next start."""
    write_json(folder / SECONDS, dataclasses.asdict(cost))


def read_parity(export: Path) -> list[dict]:
    """The parity rows of an export or an ensemble as plain values.

    Raises:
        OutputError: the file is missing or damaged.
    """
    path, advice = export / PARITY, f"Remove {export} and run the same command again: it is exported again."
    values = read_json(path, error=OutputError, advice=advice)
    try:
        rows = read_fields(_ParityFile, {"rows": values}, "parity").rows
    except SpecError as error:
        raise OutputError(f"{path} is damaged: {error}. {advice}") from error
    return [dataclasses.asdict(row) for row in rows]


def _read(kind: type, path: Path, advice: str):
    values = read_json(path, error=OutputError, advice=advice)
    try:
        return read_fields(kind, values, path.stem)
    except SpecError as error:
        raise OutputError(f"{path} is damaged: {error}. {advice}") from error
