"""`--shard 1/4`: which part of the work a process does, under any scheduler."""

from typing import NamedTuple

from zoo.errors import DataError
from zoo.limits import PROCESSES


class Shard(NamedTuple):
    """Part `number` of `parts`, counted from 0."""

    number: int = 0
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`1/4` is the second of four.

        Raises:
            DataError: it is not such a text.
        """
        number, _, parts = text.partition("/")
        if len(text) > 20 or not (
            text.isascii() and number.isdecimal() and parts.isdecimal() and int(number) < int(parts) <= PROCESSES
        ):
            raise DataError(f"--shard: expected i/n with i from 0 to n - 1, such as 0/4, found {text[:40]!r}")
        return cls(int(number), int(parts))

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"


WHOLE = Shard()
"""All of the work."""
