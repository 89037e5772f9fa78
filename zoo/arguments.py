"""Types of command-line values, with the bounds of `zoo.strict`, and options that several commands have."""

import argparse
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import SpecError
from zoo.limits import DIGITS
from zoo.specs import PreprocessSpec, StatedPreprocess
from zoo.strict import Colour, require


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


PREPROCESSING = ("mean", "std", "channels", "resize")
"""Where the options of `add_preprocess_options` are in the parsed arguments; None if they are not given."""


def add_preprocess_options(
    parser: "argparse.ArgumentParser | argparse._ArgumentGroup", usual: str | None = None
) -> None:
    """Adds --channels, --mean, --std and --resize, for `stated_preprocess`.

    Args:
        parser: to add them to.
        usual: whose channels, mean and std are taken if none are given; None: RGB, and ImageNet's.
    """
    colours = usual or "ImageNet's"
    parser.add_argument("--channels", choices=("rgb", "bgr"), help=f"channel order; default: {usual or 'rgb'}")
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            type=ranged(Colour),
            nargs=3,
            metavar="X",
            help=f"per channel in that order, for pixels from 0 to 1; default: {colours}",
        )
    parser.add_argument(
        "--resize", choices=("antialias", "bilinear"), help=f"filter; default: {PreprocessSpec().resize}"
    )


def stated_preprocess(arguments: argparse.Namespace) -> StatedPreprocess:
    """What --size and the options of `add_preprocess_options` state."""
    return StatedPreprocess(arguments.size, **{key: getattr(arguments, key) for key in PREPROCESSING})
