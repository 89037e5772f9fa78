"""`--run-slow`: the full-size networks of `full_size.py` one by one, into parity.csv, and an ensemble beyond 2 GiB."""

import subprocess
import sys
from pathlib import Path

import pytest

from export.to_savedmodel import to_savedmodel
from parity_tests import full_size
from parity_tests.random_weights import random_checkpoint
from parity_tests.results_table import merge
from zoo.checkpoint import save_checkpoint
from zoo.constants import FRAMEWORKS
from zoo.variants import get_spec


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", full_size.FULL_SIZE)
def test_a_full_size_network(name, framework, tf22_python):
    """The command refuses what is outside the tolerance table; networks of 50 layers are held to a fifth of it."""
    rows = full_size.measure(name, framework)
    merge(rows)
    if name.endswith("50"):
        assert max(float(row["max_abs"]) for row in rows) <= 2e-6


@pytest.mark.slow
def test_an_ensemble_larger_than_a_graph_can_be(tf22_python, tmp_path):
    """Six ResNeSt-269 with weights like the contest's first place, in the current TensorFlow and in 2.2."""
    save_checkpoint(
        tmp_path / "model.safetensors", random_checkpoint(get_spec("resnest269"), seed=1, framework="torch")
    )
    to_savedmodel(tmp_path / "model.safetensors", tmp_path / "member", verified=False)
    members, weights = [tmp_path / "member" / "saved_model"] * 6, (1, 0.8, 0.55, 0.5, 0.5, 0.5)
    words = ("--members", *members, "--weights", *weights, "--norm", "none", "--out", tmp_path / "large")
    command = [sys.executable, "-m", "export.ensemble", *map(str, words)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "savedmodel → tf 2.2" in done.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "large").rglob("*") if path.is_file()) > 2**31
