"""Image ids as one text, so that millions of them take little more memory than their characters."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from zoo.errors import DataError


class Ids(Sequence[str]):
    """Ids in the order of the rows, a line each in UTF-8; an id is made when it is asked for.

    Args:
        text: the ids, each followed by a line feed.

    Raises:
        DataError: the last id has no line feed, or the text is not UTF-8.
    """

    def __init__(self, text: bytes) -> None:
        if text and not text.endswith(b"\n"):
            raise DataError("expected a line feed after each id, found none at the end")
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"expected ids in UTF-8: {error}") from error
        self.text = text
        self._ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))

    @classmethod
    def of(cls, names: Iterable[str]) -> "Ids":
        """Ids from texts without line feeds."""
        return cls("".join(f"{name}\n" for name in names).encode())

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            return tuple(self[row] for row in range(*place.indices(len(self))))
        row = range(len(self))[place]
        start = self._ends[row - 1] + 1 if row else 0
        return self.text[start : self._ends[row]].decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self.text.decode().split("\n")[:-1])


def require_ids(ids: Iterable[str]) -> None:
    """Raises `DataError` unless ids are texts without white space (a predictions file separates them by spaces), all different."""
    seen: set[str] = set()
    for name in ids:
        if not isinstance(name, str) or not name or name.split() != [name] or not _encodes(name):
            raise DataError(f"expected ids that are text without white space, found {name!r}")
        if name in seen:
            raise DataError(f"expected ids that are all different, found {name!r} twice")
        seen.add(name)


def _encodes(name: str) -> bool:
    """Whether a text can be written as UTF-8; one with half of a surrogate pair cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
