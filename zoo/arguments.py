"""Ranges of command-line values: the bounded types of `zoo.strict` as types of argparse."""

import argparse
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import SpecError
from zoo.limits import DIGITS
from zoo.strict import require


def ranged(kind: Any) -> Callable[[str], Any]:
    """An argparse type that reads a number in the range of a type of `zoo.strict`, for example `ranged(Count)`."""
    base = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind

    def read(text: str) -> Any:
        try:
            if len(text) > DIGITS:
                raise ValueError(text)
            value = base(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {base.__name__}, found {text[:40]!r}") from None
        try:
            return require(kind, value)
        except SpecError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def given_path(text: str) -> Path:
    """An argparse type for a path; an empty one would mean the working directory."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, found {text!r}")
    return Path(text)
