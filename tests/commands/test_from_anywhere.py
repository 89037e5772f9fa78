"""Every command runs from a foreign directory, with relative paths, under a folder name with a space and non-ASCII letters.

The code is reached through a symlink as well: modules through a link to the checkout, files through a link to the file itself.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parity_tests.random_weights import random_checkpoint
from parity_tests.small_models import small
from retrieval.embeddings import Embeddings
from zoo.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
models: [resnet10_narrow]
batch_size: 4
stages:
  - {epochs: 1, resolution: 32, margin: 0.1, learning_rate: 0.01}
"""
LINE = ["--ckpt", "model.safetensors"]
RERANKING = (
    '{"format": "landmark-zoo re-ranking 1", "k_reciprocal": {"k1": 3, "k2": 2}, "augment_database": {"neighbours": 2}}'
)
SEARCH = ["--index", "index.safetensors", "--queries", "test.safetensors", "--data", "data"]

COMMANDS: dict[str, tuple[str, Sequence[str], str]] = {
    # name: (module, arguments, the file that must appear; "" if it writes none)
    "to_onnx": ("export.to_onnx", [*LINE, "--out", "new/model.onnx"], "new/model.onnx"),
    "torch embed": (
        "torch_models.embed",
        [*LINE, "--data", "data", "--out", "new/torch"],
        "new/torch/complete.json",
    ),
    "paddle embed": (
        "paddle_models.embed",
        [*LINE, "--data", "data", "--out", "new/paddle"],
        "new/paddle/complete.json",
    ),
    "torch train": (
        "torch_models.train",
        ["--recipe", "recipe.yaml", "--data", "data", "--out", "new/t.safetensors"],
        "new/t.safetensors",
    ),
    "paddle train": (
        "paddle_models.train",
        ["--recipe", "recipe.yaml", "--data", "data", "--out", "new/p.safetensors"],
        "new/p.safetensors",
    ),
    "torch write_weights": ("torch_models.write_weights", [*LINE, "--out", "new/a.pth"], "new/a.pth"),
    "paddle write_weights": ("paddle_models.write_weights", [*LINE, "--out", "new/a.pdparams"], "new/a.pdparams"),
    "import_weights": (
        "zoo.import_weights",
        ["published.safetensors", "--model", "resnet18", "--headless", "--out", "new/imported.safetensors"],
        "new/imported.safetensors",
    ),
    "search": ("retrieval.search", [*SEARCH, "--out", "new/predictions.csv"], "new/predictions.csv"),
    "re-rank": (
        "retrieval.search",
        [*SEARCH, "--rerank", "rerank.json", "--out", "new/reranked.csv"],
        "new/reranked.csv",
    ),
    "report": ("retrieval.viewer", [*SEARCH, "--out", "new/report.html"], "new/report.html"),
    "tune": (
        "retrieval.tune",
        ["--train", "train.safetensors", "--data", "data", "--queries", "2", "--out", "new/rerank.json"],
        "new/rerank.json",
    ),
    "whitening": (
        "retrieval.whitening",
        ["--embeddings", "index.safetensors", "--dimensions", "4", "--out", "new/whitening.safetensors"],
        "new/whitening.safetensors",
    ),
    "data check": ("retrieval.data.check", ["--data", "data"], "data/unreadable.csv"),
    "data from-folder": ("retrieval.data.from_folder", ["my photos", "--out", "new/own"], "new/own/index.csv"),
    "data shrink": (
        "retrieval.data.shrink",
        ["--data", "data", "--side", "32", "--out", "new/small"],
        "new/small/index.csv",
    ),
    "demo": ("retrieval.demo", ["--out", "new/demo"], "new/demo/index.csv"),
}
AFTER_EXPORT: dict[str, tuple[str, Sequence[str], str]] = {
    "normal_form": (
        "export.normal_form",
        ["--onnx", "exported/model.onnx", "--out", "new/normal_form.onnx"],
        "new/normal_form.onnx",
    ),
    "from_onnx": (
        "export.from_onnx",
        ["--onnx", "exported/model.onnx", "--size", "64", "--out", "new/foreign.onnx"],
        "new/foreign.onnx",
    ),
    "writer": (
        "export.writer",
        ["--onnx", "exported/normal_form.onnx", "--out", "new/written"],
        "new/written/saved_model.pb",
    ),
    "export embed": (
        "export.embed",
        ["exported/saved_model", "--data", "data", "--out", "new/served"],
        "new/served/complete.json",
    ),
    "ensemble": (
        "export.ensemble",
        ["--members", "exported/saved_model", "exported/saved_model", "--out", "new/ensemble"],
        "new/ensemble/saved_model/saved_model.pb",
    ),
}
FILES: dict[str, tuple[str, Sequence[str], str]] = {
    # Commands whose documented form is `python FILE`.
    "check.py": ("export/check.py", ["exported/saved_model"], ""),
    "find_divergence.py": (
        "parity_tests/find_divergence.py",
        [*LINE, "--from", "onnx", "--to", "normal_form"],
        "",
    ),
    "pack.py": (
        "submission/pack.py",
        ["--saved-model", "good", "--owner", "someone", "--no-verify", "--out", "new/upload"],
        "new/upload/submission.zip",
    ),
}
WITHOUT_PATHS = [
    "training.reference",
    "pipeline",
    "export.serve",
    "export.tf22.environment",
    "export.checker.make_registries",
    "export.checker.prove",
]
"""Only `--help` is run: these take no paths, or minutes (`pipeline` hands its paths to the commands above), or do not end."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_saved_models: Path) -> Path:
    """The foreign directory that the commands run in, with small inputs."""
    folder = tmp_path_factory.mktemp("anywhere") / "Schöne Fotos α"
    folder.mkdir()
    (folder / "the checkout").symlink_to(ROOT, target_is_directory=True)
    (folder / "good").symlink_to(tiny_saved_models / "good", target_is_directory=True)
    save_checkpoint(folder / "model.safetensors", random_checkpoint(small("resnet18"), seed=3))
    (folder / "recipe.yaml").write_text(RECIPE)
    _write_data(folder / "data")
    _write_photographs(folder / "my photos")
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("index", 16), ("test", 4)):
        ids = tuple(_image_id(split, number) for number in range(count))
        descriptors = random.normal(size=(count, 8)).astype(np.float32)
        Embeddings(ids, descriptors, {"model": "random"}).save(folder / f"{split}.safetensors")
    (folder / "rerank.json").write_text(RERANKING, encoding="utf-8")
    _write_published(folder / "published.safetensors")
    return folder


@pytest.fixture(scope="module")
def exported(desk: Path) -> Path:
    """The folder that to_savedmodel.py makes, run through a symlink to the file, with relative paths."""
    link = desk / "export command.py"
    link.symlink_to(ROOT / "export" / "to_savedmodel.py")
    done = _python(desk, link.name, *LINE, "--out", "exported", "--no-verify")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == str(Path("exported", "saved_model"))
    return desk / "exported"


def test_an_export_is_written_where_the_caller_meant_it(exported):
    names = ["model.onnx", "normal_form.onnx", "saved_model"]
    assert sorted(path.name for path in exported.iterdir()) == names
    assert (exported / "saved_model" / "saved_model.pb").is_file()
    assert not [path for folder in (ROOT, exported.parent) for path in folder.glob("*.partial")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_module_runs_from_a_foreign_directory(name, desk):
    _runs(desk, *COMMANDS[name])


@pytest.mark.parametrize("name", AFTER_EXPORT)
def test_a_module_reads_an_export_from_a_foreign_directory(name, exported):
    _runs(exported.parent, *AFTER_EXPORT[name])


@pytest.mark.parametrize("name", FILES)
def test_a_file_runs_through_a_symlink_to_it(name, exported):
    file, arguments, made = FILES[name]
    link = exported.parent / f"linked {Path(file).name}"
    link.symlink_to(ROOT / file)
    done = _python(exported.parent, link.name, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (exported.parent / made).exists()


@pytest.mark.parametrize("module", WITHOUT_PATHS)
def test_help_is_printed_in_a_foreign_directory(module, desk):
    done = _python(desk, "-m", module, "--help", code=desk / "the checkout")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout


def test_no_command_is_forgotten():
    """A command is a file of a room, or `find_divergence.py`, that does something if it is run."""
    rooms = ("export", "paddle_models", "pipeline", "retrieval", "submission", "torch_models", "training", "zoo")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    files = [path for path in files if not path.name.endswith("worker.py")]  # started by other commands only
    found = {path.relative_to(ROOT) for path in files if 'if __name__ == "__main__":' in path.read_text("utf-8")}
    modules = {module for module, *_ in (COMMANDS | AFTER_EXPORT).values()} | set(WITHOUT_PATHS)
    tried = {_file(module) for module in modules} | {Path(file) for file, *_ in FILES.values()}
    tried.add(Path("export", "to_savedmodel.py"))
    assert found - tried == set()


def _runs(desk: Path, module: str, arguments: Sequence[str], made: str) -> None:
    """Runs a module whose only path to the code is a symlink; what it makes must be in the caller's directory."""
    done = _python(desk, "-m", module, *arguments, code=desk / "the checkout")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (desk / made).exists(), f"{made} was not written:\n{done.stdout}\n{done.stderr[-3000:]}"


def _python(desk: Path, *words: str, code: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(code)} if code else {}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False)


def _file(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__main__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def _image_id(split: str, number: int) -> str:
    return f"{['train', 'index', 'test'].index(split):x}{number:015x}"


def _write_data(root: Path) -> None:
    """A data set in the GLDv2 layout: 8 training images of two landmarks, 16 index images, 4 queries."""
    random = np.random.default_rng(1)
    ids = {}
    for split, count in (("train", 8), ("index", 16), ("test", 4)):
        ids[split] = [_image_id(split, number) for number in range(count)]
        for image_id in ids[split]:
            path = root.joinpath(split, *image_id[:3], f"{image_id}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    train = [f"{landmark},{' '.join(ids['train'][landmark::2])}" for landmark in range(2)]
    (root / "train_clean.csv").write_text("\n".join(["landmark_id,images", *train]) + "\n")
    for split in ("index", "test"):
        (root / f"{split}.csv").write_text("\n".join(["id", *ids[split]]) + "\n")
    truth = [f"{query},{ids['index'][number]},Private" for number, query in enumerate(ids["test"])]
    (root / "retrieval_solution_v2.1.csv").write_text("\n".join(["id,images,Usage", *truth]) + "\n")


def _write_photographs(root: Path) -> None:
    """Two classes of three photographs each, in folders of any name."""
    random = np.random.default_rng(2)
    for name in ("Brücke", "old tower"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(root / name / f"{number} ä.JPG")


def _write_published(path: Path) -> None:
    """Random weights of torchvision's resnet18 under its names."""
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    save_file(resnet18(weights=None).state_dict(), path)
