"""The command `landmark-zoo`: help, typos, missing packages, exit statuses."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from landmark_zoo.__main__ import COMMANDS, GROUPS
from zoo.processes import module_environment

HEAVY = ("torch", "paddle", "tensorflow", "onnx", "onnxruntime", "faiss", "PIL", "numpy", "rich.markdown")


def landmark_zoo(*tokens: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own."""
    command = [sys.executable, "-m", "landmark_zoo", *map(str, tokens)]
    environment = module_environment() | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a few lines of Python in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=module_environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["", *GROUPS, *COMMANDS])
def test_help_is_fast_and_has_an_example(name):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = landmark_zoo(*name.split(), "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "Usage: landmark-zoo" in done.stdout
    assert f"Example: landmark-zoo {name}".strip() in done.stdout
    # Processor time, because other processes do not change it: 0.3 s were measured.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.mark.parametrize("tokens", [["--help"], ["export", "--help"], ["embed", "--help"], ["data", "check", "--help"]])
def test_help_imports_nothing_heavy(tokens):
    code = f"""
import sys
from landmark_zoo.__main__ import dispatch
dispatch({tokens!r})
print([name for name in {HEAVY!r} if name in sys.modules])"""
    assert python(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("tokens", "hint"),
    [
        (["exprt"], 'Did you mean "export"?'),
        (["export", "--ckpt", "a", "--otu", "b"], "Did you mean --out?"),
        (["export"], "landmark-zoo export --help"),
        (["check", "folder", "--side", "wide"], "landmark-zoo check --help"),
        (["models", "resnst50"], "Did you mean resnest50"),
        (["embed", "nothing", "--data", "DATA", "--out", "a"], "DATA does not exist"),
    ],
)
def test_a_mistake_is_one_line_with_a_hint(tokens, hint, tmp_path):
    done = landmark_zoo(*tokens, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and hint in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("package", "tokens", "extras"),
    [
        ("torch", ["train", "--framework", "torch", "--recipe", "r", "--data", "d", "--out", "o"], "torch"),
        ("paddle", ["train", "--framework", "paddle", "--recipe", "r", "--data", "d", "--out", "o"], "paddle,cpu"),
        ("tensorflow", ["export", "--ckpt", "a.safetensors"], "export"),
        ("paddle", ["export", "--ckpt", "a.safetensors"], "paddle,cpu"),
        ("tensorflow", ["ensemble", "--members", "a", "--out", "b"], "export"),
        ("faiss", ["search", "--index", "i", "--queries", "q", "--out", "o"], "retrieval,cpu"),
        ("jinja2", ["demo", "--out", "o"], "retrieval"),
        ("jinja2", ["report", "--predictions", "p.csv", "--data", "d", "--out", "o"], "retrieval"),
        ("fastapi", ["serve", "--model", "m", "--store", "s"], "serve"),
        ("python_multipart", ["serve", "--model", "m", "--store", "s"], "serve"),
        ("uvicorn", ["serve", "--model", "m", "--store", "s"], "serve"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, tokens, extras):
    code = f"""
import sys
sys.modules[{package!r}] = None  # as if it were not installed
sys.argv = ["landmark-zoo", *{tokens!r}]
from landmark_zoo.__main__ import main
main()"""
    done = python(code)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'landmark-zoo[{extras}]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_ctrl_c_ends_with_130():
    code = """
import sys
from landmark_zoo.commands import models
def interrupted(*_, **__):
    raise KeyboardInterrupt
models.json.dumps = interrupted
sys.argv = ["landmark-zoo", "models", "resnet50", "--json"]
from landmark_zoo.__main__ import main
main()"""
    done = python(code)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_models_as_a_table_and_as_json():
    table, rows = landmark_zoo("models", "resnest50"), landmark_zoo("models", "resnest*", "--json")
    assert "resnest50" in table.stdout and "timm resnest50d" in table.stdout
    found = {row["name"]: row for row in json.loads(rows.stdout)}
    assert found["resnest50"]["features"] == 2048
    assert "resnest269" in found and "resnet50" not in found


def test_the_entry_point_is_the_module():
    script = Path(sys.executable).with_name("landmark-zoo")
    if not os.access(script, os.X_OK):
        pytest.skip("the project is not installed in this environment")
    assert subprocess.run([script, "--version"], capture_output=True, check=False).returncode == 0
