"""`landmark-zoo X` and the module command that it stands for have the same options."""

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from landmark_zoo.__main__ import COMMANDS, build_app


class _Parsed(Exception):
    """Carries the parser of a module command out of its `main`."""


@dataclass(frozen=True)
class Option:
    """What both kinds of command must agree on; defaults only if they are plain values."""

    required: bool
    choices: tuple[str, ...]
    default: Any


def _train() -> None:
    from training.command import main

    main(type("Trainer", (), {"framework": "torch"}), lambda device: None, lambda: 0)


MODULES = {
    "import": "zoo.import_weights",
    "train": _train,
    "export": "export.to_savedmodel",
    "check": "export.check",
    "ensemble": "export.ensemble",
    "embed": "export.embed",
    "search": "retrieval.search",
    "tune": "retrieval.tune",
    "serve": "export.serve",
    "report": "retrieval.viewer.__main__",
    "demo": "pipeline.__main__",
    "pack": "submission.pack",
    "data check": "retrieval.data.check",
    "data from-folder": "retrieval.data.from_folder",
    "data shrink": "retrieval.data.shrink",
    "data render": "retrieval.demo.__main__",
}
ONLY_HERE = {"train": {"--framework"}}
"""The module commands of training are one per framework."""
ONLY_THERE = {"embed": {"--saved-model"}}
"""Another name of the positional argument, kept for older scripts."""
OTHER_DEFAULTS = {
    ("demo", "--recipe"),
    ("data check", "--workers"),
    ("data shrink", "--workers"),
    ("ensemble", "--scales"),
}
"""Computed when the command runs, so that --help does not import the room."""


def _module_options(module: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Option]:
    def caught(self: argparse.ArgumentParser, *_: Any) -> None:
        raise _Parsed(self)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", caught)
    with pytest.raises(_Parsed) as raised:
        (module if callable(module) else importlib.import_module(module).main)()
    parser = raised.value.args[0]
    return {
        option: Option(action.required, tuple(map(str, action.choices or ())), _plain(action.default))
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }


def _command_options(name: str) -> dict[str, Option]:
    app = build_app()
    for part in name.split():
        app = app[part]
    return {
        argument.name: Option(
            argument.required, tuple(argument.get_choices(force=True) or ()), _plain(argument.field_info.default)
        )
        for argument in app.assemble_argument_collection()
        if argument.name.startswith("--")
    }


def _plain(default: Any) -> Any:
    """A default to compare: nothing stands for none, an empty list, and "there is none"."""
    return default if isinstance(default, str | int | float | Path) and default is not False else None


@pytest.mark.parametrize("name", MODULES)
def test_a_sub_command_has_the_options_of_its_module(name, monkeypatch):
    here, there = _command_options(name), _module_options(MODULES[name], monkeypatch)
    assert here.keys() - ONLY_HERE.get(name, set()) == there.keys() - ONLY_THERE.get(name, set())
    for option in here.keys() & there.keys():
        ours, theirs = here[option], there[option]
        assert ours.required == theirs.required, option
        assert set(ours.choices) == set(theirs.choices), option
        if (name, option) not in OTHER_DEFAULTS:
            assert ours.default == theirs.default, option


def test_every_sub_command_is_compared():
    # These have no module command.
    assert COMMANDS.keys() - MODULES.keys() == {
        *("models", "merge", "evaluate", "compare", "revisited data", "revisited score", "revisited convert"),
    }
