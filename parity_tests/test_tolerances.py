"""The comparison itself: what must never pass."""

import numpy as np
import pytest

from export import parity
from zoo.errors import ParityError
from zoo.tolerances import TOLERANCES, compare

UNIT = np.eye(4, 512, dtype=np.float32)


def test_equal_is_zero_and_one():
    difference = compare(UNIT, UNIT)
    assert (difference.max_abs, difference.cosine) == (0.0, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_passes(bad):
    broken = UNIT.copy()
    broken[2, 7] = bad
    for pair in ((UNIT, broken), (broken, broken)):
        row = parity.measure("torch → onnx", "m", {"a": UNIT, "b": pair[0]}, {"a": UNIT, "b": pair[1]})
        assert not row.passed
        with pytest.raises(ParityError, match="outside their tolerance"):
            parity.require([row])


def test_another_shape_or_a_missing_input_never_passes():
    assert not parity.measure("torch → onnx", "m", {"a": UNIT}, {"a": UNIT[:1]}).passed
    with pytest.raises(ParityError):
        parity.measure("torch → onnx", "m", {"a": UNIT}, {"b": UNIT})
    with pytest.raises(ParityError):
        parity.measure("torch → onnx", "m", {}, {})


def test_a_small_turn_is_seen():
    """An error of 1e-3 in each entry would pass a loose absolute tolerance; the cosine detects it."""
    turned = UNIT + 1e-3
    assert compare(UNIT, turned).cosine < 0.9999


def test_zero_descriptors_have_no_cosine():
    assert compare(UNIT, np.zeros_like(UNIT)).cosine == 0.0


def test_every_arrow_is_as_strict_as_promised():
    """All but one: float16 rounds the weights, and is used only on request."""
    exact = {arrow: tolerance for arrow, tolerance in TOLERANCES.items() if arrow != "normal form → float16"}
    assert len(exact) == len(TOLERANCES) - 1
    for arrow, tolerance in exact.items():
        assert tolerance.max_abs <= 1e-5, arrow
        assert tolerance.cosine >= 0.999999, arrow
        assert tolerance.reason
