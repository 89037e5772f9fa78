"""Paddle's wrong `square` in static graphs with oneDNN, as the troubleshooting guide describes it."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.paddle_onednn import measure, reciprocal, without_square
from paddle_models.layers import unit_norm

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = np.array([[1.0, 2.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("function", "flag", "wrong"), [(reciprocal, False, 0), (without_square, True, 0), (reciprocal, True, 5 / 6)]
)
def test_only_square_in_a_static_graph_with_the_flag_is_wrong(function, flag, wrong):
    """If the last case fails, Paddle has mended it: drop the warning from the guide."""
    row = measure("reciprocal", lambda: function, NUMBERS, flag)
    assert row["eager"] == 0
    assert row["static"] == pytest.approx(wrong, abs=1e-6)


def doubled_norm(x):
    return unit_norm(x * 2.0, 1e-12)


def test_a_descriptor_is_right_in_a_static_graph_with_the_flag():
    """The norm multiplies instead of calling `square`."""
    row = measure("unit_norm", lambda: doubled_norm, NUMBERS, True)
    assert row["static"] <= 1e-6


def test_no_layer_or_loss_calls_square():
    for path in (ROOT / "paddle_models").glob("*.py"):
        assert not re.search(r"\bsquare\(", path.read_text(encoding="utf-8")), path.name
