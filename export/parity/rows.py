"""Measures steps and compares them with the table of tolerances."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

import numpy as np

from zoo.errors import ParityError
from zoo.manifest import ParityRow as Row
from zoo.tolerances import compare, tolerance_of


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
        arrow, model, size: see `zoo.manifest.ParityRow`.
        expected, found: descriptors float32 [N, D] or [D] by the inputs' names.

    Raises:
        ParityError: the two sides have different inputs, or none, or there is no such step.
    """
    if expected.keys() != found.keys() or not expected:
        raise ParityError(f"{arrow} of {model}: one side has {sorted(expected)}, the other {sorted(found)}")
    if (tolerance := tolerance_of(arrow)) is None:
        raise ParityError(f"{arrow!r} is no step of an export")
    differences = [compare(expected[name], found[name]) for name in expected]
    # NaN must be kept: Python's max() and min() would drop it unless it is first.
    worst = np.max([d.max_abs for d in differences]), np.min([d.cosine for d in differences])
    return Row(arrow, model, float(worst[0]), float(worst[1]), tolerance.max_abs, size)


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
