"""Commands that are killed or interrupted lose nothing, leave nothing, and end as unbroken ones (`tests.reliability.kills`)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.default_signals import default_signals
from tests.reliability.kills import COMMANDS, QUICK, Outcome, prepare, try_command
from zoo.processes import module_environment


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    prepare(folder)
    return folder


def _require_no_fault(outcome: Outcome) -> None:
    assert not outcome.faults, outcome


@pytest.mark.parametrize("name", QUICK)
def test_a_few_kills(name, inputs):
    _require_no_fault(try_command(name, inputs, kills=3))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_many_kills(name, inputs):
    _require_no_fault(try_command(name, inputs, kills=20, seed=1))


PARENT = """
import sys, time
from zoo.command import run
from zoo.processes import run_module

def main():
    print("started", flush=True)
    run_module("tests.reliability.sleeper")

run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_children_end_with_their_command(number, tmp_path):
    environment = module_environment() | {"SLEEPER_MARK": str(tmp_path / "alive")}
    environment.pop("LANDMARK_ZOO_PARENT")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=default_signals,
    )
    until = time.monotonic() + 30
    while not (tmp_path / "alive").exists() and time.monotonic() < until:
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 1
    parent.send_signal(number)
    assert parent.wait(30) in (-number, 128 + number)
    gone, alive = psutil.wait_procs(children, 10)
    assert gone and not alive


def test_two_commands_for_one_folder_and_the_second_is_refused(tmp_path):
    """Before the work, and the first one's result is kept."""
    words = [sys.executable, "-m", "retrieval.demo", "--out", "data"]
    environment = os.environ | {"PYTHONPATH": module_environment()["PYTHONPATH"]}
    first = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not list(tmp_path.glob(".data.*.partial")) and time.monotonic() < until:
        time.sleep(0.02)
    second = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "data is being written by another process" in second.stderr
    assert first.wait(120) == 0
    assert (tmp_path / "data" / "train.csv").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_dies_ends_its_command_with_the_cause(number, inputs, tmp_path):
    words = [sys.executable, "-m", *COMMANDS["export"].words]
    environment = module_environment()
    environment.pop("LANDMARK_ZOO_PARENT")
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    command = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, encoding="utf-8")
    until, children = time.monotonic() + 60, []
    while not children and time.monotonic() < until:
        children = [child for child in psutil.Process(command.pid).children() if _runs(child, "export.to_onnx")]
        time.sleep(0.05)
    children[0].send_signal(number)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 2, said
    assert "Traceback" not in said
    assert f"error: export.to_onnx failed ({signal.Signals(number).name}" in said
    assert {path.name for path in tmp_path.iterdir()} <= {*(path.name for path in inputs.iterdir()), "out"}
    assert not list((tmp_path / "out").glob("*"))


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.Error:  # it has ended
        return False
