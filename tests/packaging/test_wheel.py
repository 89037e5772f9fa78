"""The wheel, installed outside the checkout, runs the commands and contains every file that they read."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from retrieval.demo.dataset import DemoSize, write_demo_data
from submission.pack import FILES

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "zoo", "training", "torch_models", "paddle_models", "retrieval", "export", "pipeline", "landmark_zoo", "submission", "recipes"
)  # fmt: skip
DATA = {".j2", ".css", ".js", ".yaml", ".gz", ".txt", ".ipynb", ".json", ".md"}
"""Suffixes of the files that the packages read besides Python."""


def tracked() -> list[str]:
    """Every file of the rooms that belongs to the project, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *ROOMS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel. It is built from a copy, because setuptools writes build/ beside the sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*tracked(), "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", out, source], check=True, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment outside the checkout with the wheel; a .pth file lends it this environment's other packages."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # --target would leave scripts out, so this environment's pip installs for the other python.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # The lent packages contain this checkout, if it is installed as editable: its import hook must not serve ours.
    probe = run(environment, "python", "-c", "import zoo, sys; print(zoo.__file__)", cwd=environment)
    assert Path(probe.stdout.strip()).is_relative_to(environment), "the checkout is imported instead of the wheel"
    return environment


def run(environment: Path, program: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program of `environment` without this process's import path."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [environment / "bin" / program, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    return done


def test_every_module_and_data_file_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        contents = set(archive.namelist())
    expected = {name for name in tracked() if Path(name).suffix in {".py", *DATA}}
    assert expected - contents == set()
    assert {name.split("/")[0] for name in contents if ".dist-info/" not in name} <= set(ROOMS)


def test_what_the_wheel_declares(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert "Classifier: Private :: Do Not Upload" in metadata
    assert "Requires-Python: <3.13,>=3.11" in metadata


IMPORT_ALL = """
import importlib, pkgutil, sys
names = {names!r}
for name in names:
    importlib.import_module(name)
ours = [m for n, m in sys.modules.items() if n.split(".")[0] in {rooms!r} and getattr(m, "__file__", None)]
outside = [m.__file__ for m in ours if not m.__file__.startswith(sys.prefix)]
assert not outside, outside
"""


def test_the_core_imports_from_the_wheel_only(installed, tmp_path):
    names = [
        "zoo.variants",
        "zoo.environments",
        "training.recipes",
        "retrieval.data",
        "export.tf22.environment",
        "submission.pack",
    ]
    run(installed, "python", "-c", IMPORT_ALL.format(names=names, rooms=ROOMS), cwd=tmp_path)


def test_files_of_an_installed_package_go_to_the_users_cache(installed, tmp_path):
    code = "from export.tf22.environment import ENVIRONMENT; print(ENVIRONMENT)"
    folder = Path(run(installed, "python", "-c", code, cwd=tmp_path).stdout.strip())
    assert not folder.is_relative_to(installed) and folder.parent.name == "landmark-zoo"


@pytest.mark.parametrize(
    "module",
    [
        "pipeline", "export.to_savedmodel", "export.check", "export.ensemble", "export.embed", "export.tf22.environment",
        "submission.pack", "torch_models.train", "paddle_models.train", "zoo.import_weights",
    ],
)  # fmt: skip
def test_the_module_commands_run_from_the_wheel(module, installed, tmp_path):
    assert "usage" in run(installed, "python", "-m", module, "--help", cwd=tmp_path).stdout.lower()


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("models",), ("demo", "--help")])
def test_the_command_runs_from_the_wheel(arguments, installed, tmp_path):
    assert run(installed, "landmark-zoo", *arguments, cwd=tmp_path).stdout.strip()


def test_a_submission_is_packed_from_the_wheel(installed, tiny_saved_models, tmp_path):
    """With the notebook, the README and the metadata that are beside `submission/pack.py`."""
    words = (
        "pack",
        "--saved-model",
        tiny_saved_models / "good",
        "--owner",
        "someone",
        "--out",
        "upload",
        "--no-verify",
    )
    done = run(installed, "landmark-zoo", *words, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "upload/submission.zip"
    assert {path.name for path in (tmp_path / "upload").iterdir()} == {*FILES}


TINY_RECIPE = """
models: [resnet10_narrow]
batch_size: 8
scale: 30.0
momentum: 0.9
weight_decay: 0.0005
gradient_clip: 5.0
test_resolution: 48
seed: 0
augmentation: {crop_area: [0.6, 1.0], flip: true, jitter: 0.2}
stages:
  - {epochs: 1, resolution: 32, margin: 0.05, learning_rate: 0.01, warmup_epochs: 0}
"""
TINY_DATA = DemoSize(
    train_landmarks=4, train_images=4, queried_seen=2, queried_unseen=1, index_images=3, queries=1, other_images=1,
    distractors=2, ignored=1,
)  # fmt: skip


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(installed, tmp_path, tf22_python, monkeypatch):
    """Every stage from a data set to a packed submission, on one small network per framework."""
    monkeypatch.setenv("LANDMARK_ZOO_TF22_PYTHON", str(tf22_python))
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    (tmp_path / "data").mkdir()
    write_demo_data(tmp_path / "data", size=TINY_DATA)
    arguments = ("demo", "--out", "run", "--data", "data", "--recipe", "tiny.yaml")
    out = run(installed, "landmark-zoo", *arguments, cwd=tmp_path).stdout.splitlines()[-1]
    assert (tmp_path / out).exists()
    assert list((tmp_path / "run").rglob("report.html"))
    assert list((tmp_path / "run").rglob("submission.zip"))


def test_the_demos_recipe_comes_with_the_wheel(installed, tmp_path):
    code = """if True:
        import recipes
        from pathlib import Path
        from training.recipes import read_recipe
        [folder] = recipes.__path__
        print(folder, read_recipe(Path(folder, "demo.yaml")))"""
    assert run(installed, "python", "-c", code, cwd=tmp_path).stdout.startswith(str(installed))
