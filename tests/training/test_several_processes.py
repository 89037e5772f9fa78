"""The command on several processes: killed and resumed it computes the same to the bit, and on another number of them it goes on."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.default_signals import default_signals
from tests.training.launchers import launched
from tests.training.tiny_data import write_tiny_data
from training.history import history_path, read_history
from training.state import state_folder
from zoo.checkpoint import load_checkpoint
from zoo.text import read_json

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
models: [resnest14_narrow]
batch_size: 24
average: 0.9
negatives: 0.5
sampling: classes
loss: {kind: dynamic_arc_face, sub_centers: 2}
augmentation: {crop_area: [0.5, 1.0], jitter: 0.2}
stages:
  - {epochs: 10, resolution: 32, margin: 0.1, learning_rate: 0.02, warmup_epochs: 1}
  - {epochs: 10, resolution: 40, margin: 0.2, learning_rate: 0.01, start: average}
"""
STEPS = 40
RECUT = 2e-3
"""Largest difference of two losses of about 8, in float32, after another number of processes has taken over. Later ones drift apart:
noise is all that these images have."""
LAUNCH_SECONDS = 240


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"), RECIPE, landmarks=7, images=8)


def start(framework: str, processes: int, data: Path, out: Path, *more: str) -> subprocess.Popen:
    script = ROOT / f"{framework}_models" / "train.py"
    words = [str(script), "--recipe", str(data / "recipe.yaml"), "--data", str(data), "--out", str(out), *more]
    command = launched(framework, processes, out.with_suffix(".log"), words)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with open(out.with_suffix(".said"), "w", encoding="utf-8") as said:
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            preexec_fn=default_signals,
        )


def said(out: Path) -> str:
    """What the launcher and all processes have printed to stderr."""
    logs = sorted(out.with_suffix(".log").glob("workerlog.*"))
    return "\n".join(path.read_text(encoding="utf-8") for path in (out.with_suffix(".said"), *logs[1:]))


def finish(process: subprocess.Popen, out: Path) -> None:
    assert process.wait(LAUNCH_SECONDS) == 0, said(out)[-3000:]


def end(process: subprocess.Popen) -> None:
    """Kills the launcher and all of its processes at once, as a machine that loses its power does."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGSTOP)
    for member in family:
        member.kill()
    process.wait()


def wait_for_step(out: Path, step: int, process: subprocess.Popen) -> int:
    manifest, until = state_folder(out) / "manifest.json", time.monotonic() + LAUNCH_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, said(out)[-3000:]
        if manifest.exists() and (found := read_json(manifest)["step"]) >= step:
            return found
        time.sleep(0.02)
    raise AssertionError(said(out)[-3000:])


def same(ours: Path, theirs: Path) -> None:
    found, expected = load_checkpoint(ours), load_checkpoint(theirs)
    for name, value in expected.weights.items():
        assert np.array_equal(found.weights[name], value), name


MANY = [
    ("torch", 3),
    pytest.param("torch", 4, marks=pytest.mark.slow),
    pytest.param("paddle", 3, marks=pytest.mark.slow),
    pytest.param("paddle", 4, marks=pytest.mark.slow),
]


@pytest.mark.several
@pytest.mark.parametrize(("framework", "processes"), MANY)
def test_killed_in_the_middle_of_an_epoch_and_resumed(framework, processes, data, tmp_path):
    """With a moving average, drawn negatives, balanced classes and each process's own BatchNorm."""
    pytest.importorskip(framework)
    whole, broken = (tmp_path / f"{name}.safetensors" for name in ("whole", "broken"))
    finish(start(framework, processes, data, whole), whole)
    for step in (5, 31):
        process = start(framework, processes, data, broken, "--state-minutes", "1e-9")
        reached = wait_for_step(broken, step, process)
        end(process)
        assert reached < STEPS
    finish(start(framework, processes, data, broken), broken)
    same(broken, whole)
    same(broken.with_suffix(".average.safetensors"), whole.with_suffix(".average.safetensors"))
    assert history_path(broken).read_text() == history_path(whole).read_text()
    assert not state_folder(broken).exists()


@pytest.mark.several
@pytest.mark.parametrize("framework", ["torch", pytest.param("paddle", marks=pytest.mark.slow)])
def test_a_run_goes_on_with_another_number_of_processes(framework, data, tmp_path):
    """The next step's loss says that weights came over, and the one after it that momentum and class weights did."""
    pytest.importorskip(framework)
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    same_batches = ("--set", "batch_norm=synchronised")
    finish(start(framework, 3, data, whole, *same_batches), whole)
    process = start(framework, 3, data, broken, *same_batches, "--state-minutes", "1e-9")
    wait_for_step(broken, 15, process)
    end(process)
    reached = read_json(state_folder(broken) / "manifest.json")["step"]
    finish(start(framework, 2, data, broken, *same_batches), broken)
    losses = [[entry["loss"] for entry in read_history(path)] for path in (whole, broken)]
    apart = np.abs(np.diff(losses, axis=0))[0]
    print(framework, apart[reached : reached + 4])
    assert not apart[:reached].any()
    assert 0 < apart[reached : reached + 2].max() <= RECUT


@pytest.mark.several
@pytest.mark.parametrize("framework", ["torch", pytest.param("paddle", marks=pytest.mark.slow)])
def test_a_process_that_dies_ends_the_run_with_one_error(framework, data, tmp_path):
    pytest.importorskip(framework)
    out = tmp_path / "a.safetensors"
    process = start(framework, 3, data, out, "--state-minutes", "1e-9")
    wait_for_step(out, 3, process)
    variable = {"torch": "RANK", "paddle": "PADDLE_TRAINER_ID"}[framework]
    family = psutil.Process(process.pid).children(recursive=True)
    [victim] = [child for child in family if child.environ().get(variable) == "1"]
    victim.kill()
    assert process.wait(LAUNCH_SECONDS) != 0
    text = said(out)
    if framework == "torch":
        errors = re.findall(r"^error: .*", text, flags=re.MULTILINE)
        assert len(errors) == 1, text[-3000:]
        assert re.search(rf"process 1 \(pid {victim.pid}\) of 3 has ended.*Run the same command again", errors[0])
    else:  # Paddle's exchanges do not notice; its launcher ends the others and names the one that died
        assert "Container rank 1 status failed" in text
    assert "training/loop.py" not in text, text[-3000:]
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.several
def test_what_is_wrong_with_a_command_is_said_once(data, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "a.safetensors"
    process = start("torch", 2, data, out, "--set", "stages.0.margin=9")
    assert process.wait(LAUNCH_SECONDS) != 0
    assert len(re.findall(r"^error: ", said(out), flags=re.MULTILINE)) == 1, said(out)
