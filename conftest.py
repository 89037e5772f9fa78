"""Fixtures that tests of several rooms share. Its location also puts the repository's root on the import path."""

import os
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

# Many tests use Paddle and PyTorch in turns in one process: the waiting threads of one would keep the other's from the processors.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from export.tf22.runner import find_python
from tests.measured_models import TINY_SAVED_MODELS, write_tiny_saved_models

pytest_plugins = ["tests.browser"]
ROOT = Path(__file__).resolve().parent
PARITY_TESTS = ROOT / "parity_tests"
HEAVY = (
    *("tests/packaging", "tests/commands", "tests/landmark_zoo", "tests/benchmarks", "tests/pipeline/test_run.py"),
    *(
        "tests/export/test_any_network.py",
        "tests/export/test_check.py",
        "tests/export/test_no_verify.py",
        "tests/training/test_resume.py",
        "tests/training/test_training_command.py",
    ),
    *("tests/architecture/test_docs.py", "tests/submission", "tests/export/test_quiet_tensorflow.py"),
)
"""Files and folders of tests that start commands with a framework, build a wheel or the site, or resolve packages."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--run-slow`: networks at full size, one by one; with `--write-parity`, what is measured goes into parity.csv."""
    parser.addoption("--write-parity", action="store_true", help="the small members' rows replace those of parity.csv")
    parser.addoption(
        "--run-slow", action="store_true", help="full-size networks and long loops too, hours on two cores"
    )
    parser.addoption("--fuzz-examples", type=int, default=150, help="drawn inputs per reader in tests/reliability")


@pytest.hookimpl(tryfirst=True)  # before pytest's own -m, which selects by these markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks tests as `tf22`, `parity` and `heavy`; deselects the slow tests unless `--run-slow` is given."""
    for item in items:
        if "tf22_python" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.tf22)
        if item.path.is_relative_to(PARITY_TESTS):
            item.add_marker(pytest.mark.parity)
        if any(item.path.is_relative_to(ROOT / place) for place in HEAVY):
            item.add_marker(pytest.mark.heavy)
    if not config.getoption("--run-slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session")
def tf22_python() -> Path:
    """The Python with TensorFlow 2.2.0. Without one the test is skipped, or fails if CI is set."""
    if python := find_python():
        return python
    message = "needs TensorFlow 2.2.0: run `make tf22`"
    (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


@pytest.fixture(scope="session")
def tiny_saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of small SavedModels, valid and invalid ones, written by the current TensorFlow in its own process."""
    folder = tmp_path_factory.mktemp("tiny-saved-models")
    write_tiny_saved_models(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_descriptor() -> Callable[[np.ndarray], np.ndarray]:
    """What `good` of `tiny_saved_models` returns, in numpy: uint8 or float [H, W, 3] to float64 [8]."""
    return runpy.run_path(str(TINY_SAVED_MODELS))["descriptor"]
