"""Measures steps and compares them with the table of tolerances."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from zoo.errors import ParityError
from zoo.tolerances import TOLERANCES, Difference, compare


@dataclass(frozen=True)
class Row:
    """One arrow of one model: the worst difference over all its inputs.

    Attributes:
        arrow: its name in `zoo.tolerances.TOLERANCES`.
        model: the model's name, with the framework that it was exported from if there is one.
        size: side in pixels of the images, or None for several sizes around the model's own.
        max_abs: largest absolute difference of any entry of a unit-norm descriptor.
        cosine: smallest cosine of any descriptor.
        tolerance: the largest `max_abs` allowed.
    """

    arrow: str
    model: str
    max_abs: float
    cosine: float
    tolerance: float
    size: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the row is within its arrow's tolerance."""
        return Difference(self.max_abs, self.cosine).within(TOLERANCES[self.arrow])

    def __str__(self) -> str:
        mark = "✓" if self.passed else "✗"
        model = self.model + (f", {self.size} px" if self.size else "")
        figures = f"max abs {self.max_abs:.1e} (≤ {self.tolerance:.0e})  cosine {self.cosine:.9f}"
        return f"{mark} {self.arrow:26} {model:28} {figures}"


def measure(
    arrow: str,
    model: str,
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    *,
    size: int | None = None,
) -> Row:
    """The worst difference between two sides that got the same inputs.

    Args:
        arrow, model, size: see `Row`.
        expected, found: descriptors float32 [N, D] or [D] by the inputs' names.

    Raises:
        ParityError: the two sides have different inputs, or none.
    """
    if expected.keys() != found.keys() or not expected:
        raise ParityError(f"{arrow} of {model}: one side has {sorted(expected)}, the other {sorted(found)}")
    differences = [compare(expected[name], found[name]) for name in expected]
    # NaN must be kept: Python's max() and min() would drop it unless it is first.
    worst = np.max([d.max_abs for d in differences]), np.min([d.cosine for d in differences])
    return Row(arrow, model, float(worst[0]), float(worst[1]), TOLERANCES[arrow].max_abs, size)


def require(rows: Iterable[Row]) -> None:
    """Raises `ParityError` with all rows that exceed their tolerance."""
    failed = [row for row in rows if not row.passed]
    if failed:
        raise ParityError(
            f"{len(failed)} of the arrows are outside their tolerance:\n  "
            + "\n  ".join(map(str, failed))
            + "\nThe export is not faithful and was not kept. `pytest parity_tests` shows which step is to blame."
        )


def to_json(rows: Iterable[Row]) -> list[dict]:
    """Rows as plain values."""
    return [asdict(row) for row in rows]
