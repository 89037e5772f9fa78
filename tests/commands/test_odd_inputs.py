"""What stands at an input's path may be anything: each command says what it is, in one line, and waits for nothing."""

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.inputs import require_file, require_folder

COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "zoo.import_weights": lambda odd: [odd, "--model", "resnet18"],
    "export.to_savedmodel": lambda odd: ["--ckpt", odd],
    "export.to_savedmodel --onnx": lambda odd: ["--onnx", odd, "--size", 64],
    "export.from_onnx": lambda odd: ["--onnx", odd, "--size", 64],
    "export.to_onnx": lambda odd: ["--ckpt", odd],
    "export.ensemble": lambda odd: ["--members", odd],
    "export.check": lambda odd: [odd],
    "export.embed": lambda odd: ["--saved-model", odd, "--data", odd],
    "export.normal_form.__main__": lambda odd: ["--onnx", odd],
    "export.writer.__main__": lambda odd: ["--onnx", odd],
    "retrieval.search": lambda odd: ["--index", odd, "--queries", odd],
    "retrieval.tune": lambda odd: ["--train", odd, "--data", odd],
    "retrieval.whitening": lambda odd: ["--embeddings", odd, "--dimensions", 4],
    "retrieval.data.check": lambda odd: ["--data", odd],
    "retrieval.data.from_folder": lambda odd: [odd],
    "retrieval.data.shrink": lambda odd: ["--data", odd],
    "submission.pack": lambda odd: ["--saved-model", odd, "--owner", "me"],
    "pipeline.__main__": lambda odd: ["--recipe", odd],
    "torch_models.train": lambda odd: ["--recipe", odd, "--data", odd],
    "torch_models.embed": lambda odd: ["--ckpt", odd, "--data", odd],
    "torch_models.write_weights": lambda odd: ["--ckpt", odd],
}
WITHOUT_OUT = ("export.check", "retrieval.data.check")
TRUE = {
    "missing": "does not exist",
    "a folder": "is a folder|is not a SavedModel|at its root|holds none of|one sub-folder|read in the folder|holds no",
    "empty": "empty|not a whole zip|header too small|expected a mapping|neither a SavedModel|not a usable|is a file and not a folder",
    "a pipe": "a device, a pipe or a socket",
    "a device": "a device, a pipe or a socket",
    "a loop": "Too many levels of symbolic links",
    "dangling": "a symbolic link to something that does not exist|does not exist",
    "through a file": "a part of the path is a file",
    "a long name": "File name too long",
}


@pytest.fixture
def odd(tmp_path, request) -> Path:
    """The path of the odd thing."""
    path = tmp_path / "odd"
    match request.param:
        case "a folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            return Path(os.devnull)
        case "a loop":
            path.symlink_to(path)
        case "dangling":
            path.symlink_to(tmp_path / "gone")
        case "through a file":
            path.touch()
            return path / "x"
        case "a long name":
            return tmp_path / ("n" * 300)
    return path


@pytest.fixture
def in_time() -> Iterator[None]:
    """Ends a test that waits for a pipe."""

    def stop(*_: object) -> None:
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_path_with_a_null_character_is_no_path():
    with pytest.raises(ZooError, match="is no path"):
        require_file("a\0b", "a file", ZooError)
    with pytest.raises(ZooError, match="is no path"):
        require_folder("a\0b", "a folder", ZooError)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("odd", "kind"), [(kind, kind) for kind in TRUE], indirect=["odd"], ids=list(TRUE))
def test_an_odd_input_is_named_and_nothing_is_written(command, odd, kind, tmp_path, monkeypatch, in_time):
    module = importlib.import_module(command.partition(" ")[0])
    out = [] if command in WITHOUT_OUT else ["--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["command", *map(str, [*COMMANDS[command](odd), *out])])
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ZooError, OSError), match=f"(?s){TRUE[kind]}") as raised:
        run_command(module, command)
    assert str(odd) in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before


def run_command(module, command: str) -> None:
    if command.endswith(".train"):
        module.main(module.Trainer, module.join, module.count_gpus)
    elif command.endswith("_models.embed"):
        module.checkpoint_command("torch", module.Describer)
    elif command.endswith(".write_weights"):
        module.main("torch", ".pth", (), module.write)
    else:
        module.main()
