"""The sub-commands of `landmark-zoo`: one typed function each, whose docstring is its help.

These modules import only light ones at the top, so that `--help` is fast; a function imports its room when it is called.
The option names are those of the room's own module command; `tests/landmark_zoo/test_same_options.py` compares them.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from zoo import strict
from zoo.errors import SpecError


def _whole(_type: Any, tokens: Sequence[Token]) -> Any:
    """Integers; cyclopts' own conversion rounds 1.5 to 2."""
    found = [int(token.value) for token in tokens]
    return found if "list" in str(_type) else found[0]


def _within(kind: Any, converter: Any = None) -> Parameter:
    """The range of a value or of each value of a list: a bounded type of `zoo.strict`."""

    def check(_type: Any, value: Any) -> None:
        for item in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
            try:
                strict.require(kind, item) if item is not None else None
            except SpecError as error:
                raise ValueError(str(error)) from None

    return Parameter(validator=check, converter=converter)


Count = Annotated[int, _within(strict.Count, _whole)]
Port = Annotated[int, _within(strict.Port, _whole)]
Pixels = Annotated[int, _within(strict.Pixels, _whole)]
Seed = Annotated[int, _within(strict.Seed, _whole)]
Positive = Annotated[float, _within(strict.Positive)]
Fraction = Annotated[float, _within(strict.Fraction)]
Sides = Annotated[list[int], _within(strict.Pixels, _whole)]
Weights = Annotated[list[float], _within(strict.Weight)]
Scales = Annotated[list[float], _within(strict.Scale)]
Colour = Annotated[tuple[float, float, float], _within(strict.Colour)]

Flag = Annotated[bool, Parameter(show_default=False)]
"""An option without a value."""

Json = Annotated[bool, Parameter(name="--json", show_default=False)]
"""The option --json; a parameter named `json` would hide the module."""
