"""The ground truth of Revisited Oxford or Paris, from the published pickle or as JSON.

The published `gnd_roxford5k.pkl` and `gnd_rparis6k.pkl` (http://cmp.felk.cvut.cz/revisitop/) hold dicts, lists, texts and numbers, and
no class. They are parsed, not unpickled, and a file that names a class is refused. The JSON has the same content with names instead of
positions: {"format": …, "images": [name, …], "queries": [{"name", "box", "easy", "hard", "junk"}, …]}.
"""

import io
import math
import os
from codecs import BOM_UTF8
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import CheckpointError, DataError, SpecError
from zoo.files import write_json
from zoo.inputs import require_file
from zoo.limits import GROUND_TRUTH_IDS, TEXT_BYTES, require_at_most
from zoo.published.pickles import read_plain_pickle
from zoo.strict import read_fields
from zoo.text import read_json

FORMAT = "landmark-zoo revisited 1"
LISTS = ("easy", "hard", "junk")
_ADVICE = (
    "Expected gnd_roxford5k.pkl or gnd_rparis6k.pkl of http://cmp.felk.cvut.cz/revisitop/, or the JSON that `landmark-zoo revisited "
    "convert` makes of one."
)


@dataclass(frozen=True)
class Query:
    """A query and the images that it is compared with by name; every other image of the index is wrong.

    Attributes:
        name: of the image that the query is cut from, unique.
        box: left, top, right and bottom of the query in its image, in pixels.
        easy, hard: images that show the landmark clearly, or from an odd side, in bad light or in small.
        junk: images of which it cannot be said.
    """

    name: str
    box: tuple[float, float, float, float]
    easy: tuple[str, ...]
    hard: tuple[str, ...]
    junk: tuple[str, ...]


@dataclass(frozen=True)
class GroundTruth:
    """The names of the images to search, each once, and the queries.

    Raises:
        SpecError: on construction, if a name is repeated or unknown, or a box is empty.
    """

    images: tuple[str, ...]
    queries: tuple[Query, ...]

    def __post_init__(self) -> None:
        _require_different(self.images, "images")
        _require_different([query.name for query in self.queries], "queries")
        if not self.queries:
            raise SpecError("queries: expected at least one")
        known = set(self.images)
        for query in self.queries:
            listed = [*query.easy, *query.hard, *query.junk]
            _require_different(listed, f"easy, hard and junk of {query.name!r}")
            if unknown := [name for name in listed if name not in known]:
                raise SpecError(f"query {query.name!r} names {unknown[0]!r}, which is not among the images")
            left, top, right, bottom = query.box
            if not all(map(math.isfinite, query.box)) or right <= left or bottom <= top:
                raise SpecError(f"box of {query.name!r}: expected left, top, right and bottom, found {list(query.box)}")


def read_ground_truth(path: str | os.PathLike) -> GroundTruth:
    """Reads the published pickle or our JSON, whichever it is.

    Raises:
        DataError: the file is missing or damaged, names a class, or does not hold a ground truth.
    """
    path = Path(path)
    require_file(path, "a ground truth", DataError, _ADVICE)
    try:
        with open(path, "rb") as file:
            content = file.read(TEXT_BYTES + 1)
        require_at_most(TEXT_BYTES, len(content), "bytes", "the file", DataError)
        if content.removeprefix(BOM_UTF8).lstrip()[:1] == b"{":
            values = _without_format(read_json(path))
        else:
            values = _named(read_plain_pickle(io.BytesIO(content)))
        return read_fields(GroundTruth, values, "ground truth")
    except (CheckpointError, DataError, SpecError, OSError) as error:
        raise DataError(f"{path} is not a ground truth of Revisited Oxford or Paris: {error}. {_ADVICE}") from error


def write_ground_truth(path: str | os.PathLike, truth: GroundTruth) -> None:
    """Writes the JSON, atomically.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    write_json(path, {"format": FORMAT} | asdict(truth))


def _without_format(values: Any) -> Any:
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise DataError(f"expected the format {FORMAT!r}, found {found!r}")
    return {key: value for key, value in values.items() if key != "format"}


def _named(pickled: Any) -> dict[str, Any]:
    """The content of a published file with names for positions, to be checked like the JSON."""
    images, names, entries = (_list(pickled, key) for key in ("imlist", "qimlist", "gnd"))
    if len(names) != len(entries):
        raise DataError(f"expected as many queries in qimlist as in gnd, found {len(names)} and {len(entries)}")
    # One list may be referred to any number of times, so its length is checked before it is copied.
    positions = [{kind: _list(entry, kind) for kind in LISTS} for entry in entries]
    count = sum(len(listed) for lists in positions for listed in lists.values())
    require_at_most(GROUND_TRUTH_IDS, count, "positions in its lists", "the file", DataError)
    queries = [
        {"name": name, "box": _list(entry, "bbx"), **{kind: _pick(images, own) for kind, own in lists.items()}}
        for name, entry, lists in zip(names, entries, positions, strict=True)
    ]
    return {"images": images, "queries": queries}


def _list(values: Any, key: str) -> list:
    if not isinstance(values, dict) or key not in values:
        raise DataError(f"expected a dict with the key {key!r}")
    if not isinstance(values[key], list):
        raise DataError(f"{key}: expected a list, found {type(values[key]).__name__}")
    return values[key]


def _pick(images: list, positions: list) -> list:
    for position in positions:
        if type(position) is not int or not 0 <= position < len(images):
            raise DataError(f"expected positions from 0 to {len(images) - 1}, found {str(position)[:40]}")
    return [images[position] for position in positions]


def _require_different(names: Any, what: str) -> None:
    [(name, count)] = Counter(names).most_common(1) or [("", 1)]
    if count > 1:
        raise SpecError(f"{what}: expected each name once, found {name!r} {count:,} times")
    if wrong := [name for name in names if name.split() != [name]]:
        raise SpecError(f"{what}: expected names without white space, found {wrong[0][:80]!r}")
