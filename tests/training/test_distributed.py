"""Two and three processes compute what one does: losses, norms of the gradients, and all tensors after the last step."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.training.launchers import launched
from tests.training.several_processes import SETTINGS

BOUND, ADAMW = 1e-11, 1e-9
"""Largest difference of a loss, a gradient's norm or an entry of a tensor, in float64 after 20 steps. Measured with SGD: 4.5e-13 in PyTorch,
2.8e-13 in Paddle. AdamW divides a gradient by its own size, and with it the rounding of one that nearly cancels: 1.4e-11 and 1.3e-10."""
STEPS = 20
WORKER = Path(__file__).with_name("several_processes.py")


def run(framework: str, folder: Path, processes: int, every: bool) -> dict[str, list[dict[str, np.ndarray]]]:
    """{setting: what each process wrote}."""
    folder.mkdir()
    words = [str(WORKER), framework, str(folder), str(STEPS), "true" if every else "false"]
    command = launched(framework, processes, folder / "log", words)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {name: [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in range(processes)] for name in SETTINGS}


def whole(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One process's tensors out of several: the rows of the class weights, one after another."""
    cut = [name for name in parts[0] if name.endswith(("arc_margin.weight", "arc_margin.class_margin"))]
    return parts[0] | {name: np.concatenate([part[name] for part in parts]) for name in cut}


@pytest.fixture(scope="module", params=["torch", "paddle"])
def framework(request) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module")
def alone(framework, tmp_path_factory, request) -> dict[str, list[dict[str, np.ndarray]]]:
    return run(framework, tmp_path_factory.mktemp(framework) / "1", 1, request.config.getoption("--run-slow"))


@pytest.mark.several
@pytest.mark.parametrize("processes", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_several_processes_compute_what_one_does(framework, alone, processes, tmp_path, request):
    found = run(framework, tmp_path / "several", processes, request.config.getoption("--run-slow"))
    worst = {}
    for name, parts in found.items():
        [expected], ours = alone[name], whole(parts)
        assert ours.keys() == expected.keys()
        worst[name] = max(float(np.abs(ours[key] - value).max()) for key, value in expected.items())
        assert np.abs(expected["measured"][:, 0]).max() > 0.1
    print(framework, processes, worst)
    assert worst.pop("adamw") <= ADAMW
    assert max(worst.values()) <= BOUND, worst


def test_a_difference_is_seen(framework, alone):
    """Of two settings that differ in little: the moving average's decay and the other loss change far more than the bound."""
    first, second = alone["arc_face"][0], alone["cos_face"][0]
    assert np.abs(first["measured"][5] - second["measured"][5]).max() > 1e6 * BOUND
