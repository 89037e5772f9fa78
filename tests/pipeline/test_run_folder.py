"""A run's folder: whose it is, what happens if its data change, and damaged files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run import run_pipeline
from pipeline.run_folder import Identity, claim, identify, read_cost, read_parity, require_own_images
from retrieval.data.gldv2 import Gldv2
from retrieval.demo.dataset import DemoSize, write_demo_data
from training.recipes import read_recipe
from zoo.claims import claimed
from zoo.errors import DataError, OutputError
from zoo.processes import module_environment

TINY = DemoSize(2, 2, 1, 1, 1, 1, 1, 1, 1)
RECIPE = """
models: [resnet10_narrow]
batch_size: 2
stages: [{epochs: 1, resolution: 32, margin: 0.1, learning_rate: 0.01}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and a recipe beside it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "data").mkdir()
    write_demo_data(folder / "data", size=TINY)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def test_a_start_that_fails_does_not_claim_the_folder(made, tmp_path):
    with pytest.raises(DataError, match="does not exist; expected the root of a data set"):
        run_pipeline(made / "recipe.yaml", tmp_path / "no data", tmp_path / "run", "me")
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        run_pipeline(made / "recipe.yaml", tmp_path / "empty", tmp_path / "run", "me")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "index", "test"])
def test_a_data_set_that_changed_under_the_same_path_is_refused(made, tmp_path, split):
    recipe, out = read_recipe(made / "recipe.yaml"), tmp_path / "run"
    claim(out, identify(recipe, made / "data"))
    claim(out, identify(recipe, made / "data"))
    dataset = Gldv2(made / "data")
    image = dataset.image_path(split, dataset.named_ids(split)[0])
    before = image.read_bytes()
    try:
        image.write_bytes(before + b"\0")
        with pytest.raises(OutputError, match=f"other images: the {split} split of .* has changed"):
            claim(out, identify(recipe, made / "data"))
    finally:
        image.write_bytes(before)
    claim(out, identify(recipe, made / "data"))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"recipe": 3}', '{"seconds": {"a": -1}}', "[" * 100_000, "\xff"]
)
def test_damaged_files_are_named_with_what_to_do(tmp_path, content):
    for name, read, advice in (
        ("run.json", lambda: claim(tmp_path, Identity("r", "demo")), "Choose another --out"),
        ("seconds.json", lambda: read_cost(tmp_path), "only the times of finished steps are lost"),
        ("parity.json", lambda: read_parity(tmp_path), "it is exported again"),
    ):
        if name == "parity.json" and content == "[]":
            continue
        (tmp_path / name).write_text(content, encoding="latin-1")
        with pytest.raises(OutputError, match=rf"{name}.*{advice}"):
            read()
        (tmp_path / name).unlink()


def test_rendered_images_that_changed_are_refused(made, tmp_path):
    out, dataset = tmp_path / "run", Gldv2(made / "data")
    claim(out, Identity("r", "demo"))
    require_own_images(out, dataset)
    require_own_images(out, dataset)
    claim(out, Identity("r", "demo"))
    table = (made / "data" / "index.csv").read_text(encoding="utf-8")
    try:
        (made / "data" / "index.csv").write_text(table + "0123456789abcdef\n", encoding="utf-8")
        with pytest.raises(OutputError, match="other images"):
            require_own_images(out, Gldv2(made / "data"))
    finally:
        (made / "data" / "index.csv").write_text(table, encoding="utf-8")


def test_checkpoints_of_unknown_images_are_not_reused(made, tmp_path):
    out = tmp_path / "run"
    claim(out, Identity("r", "demo"))
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "resnet10.safetensors").touch()
    with pytest.raises(OutputError, match="does not say which images"):
        require_own_images(out, Gldv2(made / "data"))


def test_a_second_pipeline_in_one_folder_is_refused(made, tmp_path):
    with claimed(tmp_path / "run" / "run.json"):
        claim(tmp_path / "run", Identity("r", "demo"))  # the lock in an empty folder is no content
        code = f"from pipeline.run import run_pipeline; from pathlib import Path; from zoo.command import run; run(lambda: run_pipeline(Path({str(made / 'recipe.yaml')!r}), Path({str(made / 'data')!r}), Path({str(tmp_path / 'run')!r}), 'me'))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=module_environment(), capture_output=True, encoding="utf-8", check=False
        )
    assert done.returncode == 2
    assert "run.json is being written by another process" in done.stderr


def test_parity_is_read_as_it_is_written(tmp_path):
    row = {"arrow": "torch → tf 2.2", "model": "m", "max_abs": 1e-7, "cosine": 1.0, "tolerance": 1e-5, "size": None}
    (tmp_path / "parity.json").write_text(json.dumps([row]), encoding="utf-8")
    assert read_parity(tmp_path) == [row]
