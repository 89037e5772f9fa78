"""The pipeline: its default recipe, what it refuses, and a tiny run from a foreign directory that is resumed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.run
from pipeline.run import DEMO_RECIPE, at_once, run_pipeline
from retrieval.demo.dataset import DemoSize, write_demo_data
from training.recipes import read_recipe
from zoo.errors import OutputError
from zoo.processes import module_environment

TINY = DemoSize(
    train_landmarks=4,
    train_images=4,
    queried_seen=2,
    queried_unseen=1,
    index_images=2,
    queries=2,
    other_images=1,
    distractors=2,
    ignored=1,
)
RECIPE = """
models: [resnet10_narrow]
batch_size: 8
stages:
  - {epochs: 1, resolution: 32, margin: 0.1, learning_rate: 0.01}
"""


def test_the_default_recipe_is_found():
    assert read_recipe(DEMO_RECIPE).models


def test_processes_that_run_at_once_fit_into_memory(monkeypatch):
    monkeypatch.setattr(pipeline.run, "CORES", 32)
    assert at_once(3, available=10) == 3
    assert at_once(11, available=10) == 1
    assert at_once(1, available=1000) == 32
    assert at_once(1) == 32


def test_a_folder_of_another_run_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="already holds something that is not a run"):
        run_pipeline(tmp_path / "recipe.yaml", None, tmp_path / "full", "me")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"recipe": "another", "data": "demo"}))
    with pytest.raises(OutputError, match="a run with another recipe"):
        run_pipeline(tmp_path / "recipe.yaml", None, tmp_path / "run", "me")


def test_the_summary_says_when_the_gain_of_the_ensemble_is_not_shown(capsys):
    def comparison(against: str, p: float) -> dict:
        return {"against": against, "difference": 0.0235, "interval": [-0.013, 0.06], "p": p, "queries": 72}

    scores = {"untrained": 0.1, "members": {"a": 0.6, "b": 0.5}, "ensemble": 0.6235}
    scores |= {"intervals": {"members": {"a": [0.5, 0.7], "b": [0.4, 0.6]}, "ensemble": [0.5, 0.7]}}
    scores |= {"comparison": comparison("a", 0.22), "comparison_with_mean": comparison("the members' mean", 0.0001)}
    parity = [{"arrow": "torch → onnx", "model": "a", "max_abs": 1e-7, "tolerance": 1e-5}]
    pipeline.run._summarise({"map100": scores, "parity": parity, "seconds": {"training": 1}, "peak_rss_mib": 1})
    said = capsys.readouterr().err
    assert "ensemble minus a +0.0235 (95 % interval -0.0130 to +0.0600), p = .22: not shown on 72 queries" in said
    assert "ensemble minus the members' mean +0.0235 (95 % interval -0.0130 to +0.0600), p < .001: shown" in said


@pytest.mark.slow
def test_a_tiny_run_from_a_foreign_directory_is_resumed(tmp_path):
    desk = tmp_path / "Schöne Fotos α"
    desk.mkdir()
    (desk / "recipe.yaml").write_text(RECIPE)
    (desk / "data").mkdir()
    write_demo_data(desk / "data", size=TINY)
    first = _pipeline(desk)
    out = desk / "runs" / "tiny"
    assert first.stdout.splitlines()[-1] == str(Path("runs", "tiny", "report.html"))
    figures = json.loads((out / "figures.json").read_text())
    scores = figures["map100"]
    assert set(scores["members"]) == {"resnet10_narrow_torch", "resnet10_narrow_paddle"}
    for score, (low, high) in [
        (scores["ensemble"], scores["intervals"]["ensemble"]),
        *((scores["members"][name], scores["intervals"]["members"][name]) for name in scores["members"]),
    ]:
        assert 0 <= low <= score <= high <= 1
    assert scores["comparison"]["against"] in scores["members"]
    assert 0 < scores["comparison"]["p"] <= 1
    assert "ensemble minus" in first.stderr
    assert figures["parity"]
    assert all(row["max_abs"] <= row["tolerance"] for row in figures["parity"])
    assert figures["data"] == {"train": 16, "classes": 4, "index": 10, "queries": 7}
    assert (out / "submission" / "submission.zip").is_file()
    trained = (out / "checkpoints" / "resnet10_narrow_torch.safetensors").stat().st_mtime_ns

    (out / "embeddings" / "test" / "complete.json").unlink()
    (out / "figures.json").unlink()
    again = _pipeline(desk)
    for step in ("training", "export and parity", "ensemble", "submission"):
        assert f"== {step}: already finished" in again.stderr
    assert "== embedding: already finished" not in again.stderr
    assert json.loads((out / "figures.json").read_text())["map100"] == scores
    assert (out / "checkpoints" / "resnet10_narrow_torch.safetensors").stat().st_mtime_ns == trained


def _pipeline(desk: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "--data", "data", "--recipe", "recipe.yaml", "--out", "runs/tiny"]
    done = subprocess.run(command, cwd=desk, env=module_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done
