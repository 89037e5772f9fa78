"""What a property test knows of a reader: how its files look, and the call that reads one."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

from tests.reliability import readers

Files = bytes | Mapping[str, bytes]
"""The content of one file, or of a folder by relative path."""


@dataclass(frozen=True)
class Reader:
    """A reader of the project under test.

    Attributes:
        name: as the table of results shows it, for example "checkpoint (.safetensors)".
        files: draws inputs: mostly near a valid one, because noise is refused at the first byte.
        read: reads the file or the folder at the path as the commands do. It may only return or raise a `ZooError`; an
            `AssertionError` of its own says that something wrong was accepted.
        place: name of the file or the folder that `read` is given.
        messages: a part of the error by the name of a specimen in the corpus, which shows that it is refused for what is wrong with it.
    """

    name: str
    files: st.SearchStrategy[Files]
    read: Callable[[Path], object]
    place: str = "input"
    messages: Mapping[str, str] = field(default_factory=dict)


def names() -> list[str]:
    """The modules of `tests/reliability/readers`, each of which defines one `READER`."""
    return sorted(module.name for module in pkgutil.iter_modules(readers.__path__))


def load(name: str) -> Reader:
    """The reader of a module."""
    return importlib.import_module(f"tests.reliability.readers.{name}").READER


def write(files: Files, path: Path) -> int:
    """Writes drawn input to `path`; returns its bytes."""
    if isinstance(files, bytes):
        path.write_bytes(files)
        return len(files)
    for name, content in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return sum(map(len, files.values()))
