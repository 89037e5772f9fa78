"""How a SavedModel stores a network: one dataclass, and the command-line options that fill it."""

import argparse
from dataclasses import dataclass
from typing import Literal, Self

CONVERTERS = ("writer", "onnx2tf")
"""What can make a SavedModel from a normal form; the first is the default."""
PLACES = ("constants", "variables")


@dataclass(frozen=True)
class Storage:
    """How a SavedModel stores a network.

    Attributes:
        static: the batch signature takes only images of the spec's size.
        half: the convolutions' weights are stored as float16, in half the space.
        weights: as constants in the graph or as variables beside it; None chooses by their size.
    """

    static: bool = False
    half: bool = False
    weights: Literal["constants", "variables"] | None = None

    @property
    def variables(self) -> bool | None:
        """Whether weights are variables; None chooses by their size."""
        return None if self.weights is None else self.weights == "variables"

    def arguments(self) -> list[str]:
        """The options of `add_storage_options` that give this value."""
        flags = [option for option, given in (("--static", self.static), ("--half", self.half)) if given]
        return [*flags, "--store", self.weights] if self.weights else flags

    @classmethod
    def given(cls, arguments: argparse.Namespace) -> Self:
        """The value of parsed options."""
        return cls(arguments.static, arguments.half, arguments.store)


BY_SIZE = Storage()
"""Any image size, float32, and constants or variables by size."""


def add_storage_options(parser: argparse.ArgumentParser) -> None:
    """Adds --static, --half and --store."""
    parser.add_argument("--static", action="store_true", help="batches have only images of the spec's size")
    parser.add_argument("--half", action="store_true", help="store the convolutions' weights as float16: half the file")
    add_store_option(parser)


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Adds --store."""
    parser.add_argument(
        "--store",
        choices=PLACES,
        help="constants are faster in the current TensorFlow, variables take less memory; default: by size",
    )
