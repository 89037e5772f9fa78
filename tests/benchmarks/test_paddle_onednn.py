"""Paddle's wrong `square` in static graphs with oneDNN, as the troubleshooting guide describes it."""

import numpy as np
import pytest

from benchmarks.paddle_onednn import measure, reciprocal, without_square

NUMBERS = np.array([[1.0, 2.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("function", "flag", "wrong"), [(reciprocal, False, 0), (without_square, True, 0), (reciprocal, True, 5 / 6)]
)
def test_only_square_in_a_static_graph_with_the_flag_is_wrong(function, flag, wrong):
    """If the last case fails, Paddle has mended it: drop the warning from the guide."""
    row = measure("reciprocal", lambda: function, NUMBERS, flag)
    assert row["eager"] == 0
    assert row["static"] == pytest.approx(wrong, abs=1e-6)
