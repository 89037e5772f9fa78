"""`--run-slow`: the full-size networks of `full_size.py` one by one, into parity.csv."""

import pytest

from export.to_savedmodel import FRAMEWORKS
from parity_tests import full_size
from parity_tests.results_table import merge


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", full_size.FULL_SIZE)
def test_a_full_size_network(name, framework, tf22_python):
    """The command refuses what is outside the tolerance table."""
    merge(full_size.measure(name, framework))
