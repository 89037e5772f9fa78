"""Every command that writes finds out at its door that another process is writing the same output: nothing was read before."""

import argparse
import fcntl
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.reliability.test_command_lines import MODULES, parser_of

RECIPE = (
    "models: [resnet10_narrow]\nbatch_size: 4\nstages: [{epochs: 1, resolution: 32, margin: 0.1, learning_rate: 0.1}]\n"
)


@contextmanager
def written_elsewhere(out: Path) -> Iterator[None]:
    """The lock of another process that writes `out`."""
    with open(out.with_name(f".{out.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def words_for(parser: argparse.ArgumentParser, given: Path, out: Path) -> list[str]:
    """The shortest command line: every path but the data set and the recipe is a file of nonsense."""
    values = {"data": given.parent / "data", "recipe": given.parent / "recipe.yaml", "out": out, "source": given}
    others = {"dimensions": "4", "size": "64", "model": "resnet10_narrow", "owner": "someone"}
    words = []
    for action in parser._actions:
        needed = action.required or not action.option_strings or action.dest in ("data", "out", "ckpt")
        if needed and action.dest != "help":
            value = str(values.get(action.dest, others.get(action.dest, given)))
            words += [*action.option_strings[:1], value]
    return words


@pytest.mark.parametrize("module", MODULES)
def test_a_second_writer_is_refused_before_anything_is_read(module, tmp_path, monkeypatch, capsys):
    if module.startswith(("torch_models", "paddle_models")):
        pytest.importorskip(module.partition("_")[0])
    parser, pipeline = parser_of(module, monkeypatch), module == "pipeline.__main__"
    if not any(action.dest == "out" for action in parser._actions):
        pytest.skip("it writes no output")
    given, out = tmp_path / "given", tmp_path / "out"
    given.write_bytes(b"nonsense")
    (tmp_path / "data").mkdir()
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    if pipeline:
        out.mkdir()
    words = words_for(parser, given, out)
    if pipeline:  # it renders its own data
        words = words[: words.index("--data")] + words[words.index("--data") + 2 :]
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.setattr("training.command.WAIT_SECONDS", 0.1)
    held = out / "run.json" if pipeline else out
    with written_elsewhere(held), pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    assert "is being written by another process" in capsys.readouterr().err
