"""A pipeline's steps: run in parallel, skipped if finished, stopped together."""

import json
import time
from pathlib import Path

import pytest

from pipeline.steps import StepError, Steps

MODULE = """
import os, sys, time
from pathlib import Path
name, *rest = sys.argv[1:]
if name == "fail":
    sys.exit("no such luck")
time.sleep(float(rest[1]) if rest[1:] else 0)
Path(rest[0]).write_text(os.environ["OMP_NUM_THREADS"] if name == "threads" else name)
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """A step's command that writes a file, or fails."""
    (tmp_path / "worker.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "worker"


def test_steps_run_once_and_are_timed(tmp_path, module):
    made = [tmp_path / "a", tmp_path / "b"]
    commands = [(module, path.name, path, 0.6) for path in made]
    with Steps(tmp_path) as run:
        run.run("both", commands, made, at_once=2)
        first = run.seconds["both"]
        made[0].write_text("kept")
        made[1].unlink()
        run.run("both", commands, made)
    assert [path.read_text() for path in made] == ["kept", "b"]
    assert 0.6 <= first < run.seconds["both"]
    assert run.peak_rss_mib > 10
    kept = json.loads((tmp_path / "seconds.json").read_text())
    assert kept["seconds"] == run.seconds
    assert Steps(tmp_path).seconds == run.seconds


def test_a_resumed_step_has_the_threads_of_an_unbroken_one(tmp_path, module, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    made = [tmp_path / "a", tmp_path / "b"]
    commands = [(module, "threads", path) for path in made]
    with Steps(tmp_path) as run:
        run.run("both", commands, made, at_once=2)
        unbroken = made[0].read_text()
        made[0].unlink()
        run.run("both", commands, made, at_once=2)
    assert made[0].read_text() == unbroken == "4"


def test_a_failure_ends_the_others(tmp_path, module):
    commands = [(module, "fail"), (module, "slow", tmp_path / "slow", 60)]
    start = time.perf_counter()
    with pytest.raises(StepError, match="worker fail"), Steps(tmp_path) as run:
        run.run("doomed", commands, [tmp_path / "never", tmp_path / "slow"], at_once=2)
    assert time.perf_counter() - start < 30
    assert not (tmp_path / "slow").exists()
    assert not (tmp_path / "seconds.json").exists()


def test_relative_paths_are_the_callers(tmp_path, module, monkeypatch):
    folder = tmp_path / "anöther place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with Steps(folder) as run:
        run.run("one", [(module, "a", "made")], [Path("made")])
    assert (folder / "made").read_text() == "a"
