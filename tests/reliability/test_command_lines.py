"""Every option of every command with values that nobody should pass: one line of error, status 2, and nothing written."""

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from landmark_zoo.__main__ import COMMANDS, UsageError, dispatch

MODULES = (
    *(
        "zoo.import_weights",
        "export.to_savedmodel",
        "export.to_onnx",
        "export.from_onnx",
        "export.ensemble",
        "export.check",
        "export.checker.prove",
        "export.embed",
        "export.serve",
    ),
    *(
        "export.normal_form.__main__",
        "export.writer.__main__",
        "retrieval.search",
        "retrieval.tune",
        "retrieval.whitening",
    ),
    *(
        "retrieval.data.check",
        "retrieval.data.from_folder",
        "retrieval.data.shrink",
        "retrieval.demo.__main__",
        "retrieval.viewer.__main__",
        "submission.pack",
        "pipeline.__main__",
    ),
    *("torch_models.train", "paddle_models.train", "torch_models.embed", "paddle_models.embed"),
    *("torch_models.write_weights", "paddle_models.write_weights"),
)
WRONG_NUMBERS = ("-1", "nan", "inf", "-inf", "1e400", "9" * 5000, "ten", "", "1,5")
WRONG_INTEGERS = (*WRONG_NUMBERS, "1.5")
WRONG_PATHS = ("", " ", "a\0b")


class Stopped(BaseException):
    """The parser was built: this is as far as the test goes."""


def parser_of(module: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a module's command makes, without running the command."""
    made: list[argparse.ArgumentParser] = []

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        made.append(parser)
        raise Stopped

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    loaded = importlib.import_module(module)
    with pytest.raises(Stopped):
        if hasattr(loaded, "parse_arguments"):
            loaded.parse_arguments()
        elif module.endswith(".train"):
            loaded.main(loaded.Trainer, loaded.join, loaded.count_gpus)
        elif module.endswith("_models.embed"):
            loaded.checkpoint_command(module.partition("_")[0], None)
        elif module.endswith(".write_weights"):
            loaded.main(module.partition("_")[0], ".pth", (), None)
        else:
            loaded.main()
    monkeypatch.undo()
    return made[0]


def wrong_values(action: argparse.Action) -> tuple[str, ...]:
    """What an option must refuse, by its type."""
    if action.nargs == 0 or isinstance(action, argparse._HelpAction | argparse._VersionAction):
        return ()
    if action.choices:
        return ("", "no such choice")
    name = getattr(action.type, "__qualname__", "")
    if action.type is int or action.type is float:
        raise AssertionError(
            f"{action.option_strings}: a plain {action.type.__name__} has no range; use zoo.arguments.ranged"
        )
    if name.startswith("ranged"):
        return WRONG_NUMBERS
    return WRONG_PATHS if name == "given_path" else ()


@pytest.mark.parametrize("module", MODULES)
def test_every_option_of_a_module_refuses_what_is_out_of_range(module, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if module.startswith(("torch_models", "paddle_models")):
        pytest.importorskip(module.partition("_")[0])
    parser, tried = parser_of(module, monkeypatch), 0
    for action in parser._actions:
        for value in wrong_values(action):
            words = [*action.option_strings[:1], value]
            with pytest.raises(SystemExit) as ended, contextlib.redirect_stderr(io.StringIO()) as said:
                parser.parse_args(words)
            assert ended.value.code == 2
            assert "error: argument" in said.getvalue(), words
            tried += 1
    assert tried or module == "export.normal_form.__main__"  # it has two paths, and its code is measured
    assert not list(tmp_path.iterdir())


def options() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(sub-command, option, wrong values) of every ranged option of `landmark-zoo`."""
    sys.argv = ["landmark-zoo"]
    for command, entry in COMMANDS.items():
        module, _, function = entry.function.partition(":")
        loaded = importlib.import_module(f"landmark_zoo.commands.{module}")
        hints = loaded.__dict__[function].__annotations__
        for name, hint in hints.items():
            text = str(hint)
            if name != "return" and ("int" in text or "float" in text) and "bool" not in text:
                yield command, f"--{name.replace('_', '-')}", WRONG_INTEGERS if "int" in text else WRONG_NUMBERS


@pytest.mark.parametrize(("command", "option", "values"), list(options()), ids=lambda value: str(value)[:30])
def test_every_number_of_the_command_refuses_what_is_out_of_range(command, option, values, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    required = {
        "import": ["x.pth", "--model", "resnet18", "--out", "a"],
        "train": ["--framework", "torch", "--recipe", "r", "--data", "d", "--out", "o"],
        "export": ["--ckpt", "c"],
        "ensemble": ["--members", "m", "--out", "o"],
        "check": ["x"],
        "embed": ["x", "--data", "d", "--out", "o"],
        "search": ["--index", "i", "--queries", "q", "--out", "o"],
        "tune": ["--train", "t", "--data", "d", "--out", "o"],
        "serve": ["--model", "m", "--store", "s"],
        "data check": ["--data", "d"],
        "data from-folder": ["x", "--out", "o"],
        "data shrink": ["--data", "d", "--out", "o"],
        "data render": ["--out", "o"],
    }[command]
    for value in values:
        words = [value] * 3 if option in ("--mean", "--std") else [value]
        with pytest.raises(UsageError):
            dispatch([*command.split(), *required, option, *words])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_empty_value(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="the value is empty"):
        dispatch([*command.split(), "--out", ""])
    assert not list(tmp_path.iterdir())


def test_the_modules_above_are_all_commands():
    root = Path(__file__).resolve().parents[2]
    rooms = ("zoo", "training", "torch_models", "paddle_models", "retrieval", "export", "submission", "pipeline")
    found = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for room in rooms
        for path in (root / room).rglob("*.py")
        if "\n    run(" in (text := path.read_text(encoding="utf-8"))
        and "__main__" in text
        and "worker" not in path.name
    }
    assert found - set(MODULES) <= {"training.reference", "export.tf22.environment", "export.checker.make_registries"}
