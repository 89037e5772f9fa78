"""What is uploaded to Kaggle: the zip, the metadata, and the notebook that writes submission.zip."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from submission import model_card, pack
from zoo.errors import OutputError, SubmissionError
from zoo.manifest import Combined, require_manifest, write_manifest

UPLOADED = {pack.ZIP, pack.LISTING, pack.METADATA, pack.NOTEBOOK, pack.README, model_card.FILE}


def committed_metadata() -> dict:
    return json.loads((pack.HERE / pack.METADATA).read_text(encoding="utf-8"))


@pytest.fixture
def saved_model(tiny_saved_models, tmp_path) -> Path:
    """The valid model as another writer would write it: with an asset and an unknown file."""
    folder = shutil.copytree(tiny_saved_models / "good", tmp_path / "model")
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "names.txt").write_text("asset")
    (folder / "keras_metadata.pb").write_bytes(b"keras")
    return folder


def test_packs_every_file_flat(saved_model, tmp_path):
    card = tmp_path / "NOTES.md"
    card.write_text("parity 1e-6")
    path = pack.pack(saved_model, tmp_path / "upload", owner="someone", include=[card])
    assert path == tmp_path / "upload" / pack.ZIP
    assert {p.name for p in path.parent.iterdir() if p.is_file()} == UPLOADED | {"NOTES.md"}
    assert not [p for p in path.parent.iterdir() if p.is_dir()], "Kaggle's client skips folders"
    with zipfile.ZipFile(path) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == {
        p.relative_to(saved_model).as_posix(): p.read_bytes() for p in saved_model.rglob("*") if p.is_file()
    }
    assert "saved_model.pb" in packed and "variables/variables.data-00000-of-00001" in packed
    metadata = json.loads((path.parent / pack.METADATA).read_text(encoding="utf-8"))
    assert metadata["id"] == "someone/landmark-zoo-ensemble"
    pack.check_metadata(metadata, path.parent)


def test_the_same_model_gives_the_same_bytes(saved_model, tmp_path):
    first = pack.pack(saved_model, tmp_path / "first", owner="someone").read_bytes()
    for file in saved_model.rglob("*"):
        os.utime(file, (10**9, 10**9))
    (saved_model / "saved_model.pb").chmod(0o600)
    assert pack.pack(saved_model, tmp_path / "second", owner="someone").read_bytes() == first


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_contest_signature", "expected the signature 'serving_default'"),
        ("two_inputs", "only input.*'weight'"),
        ("float_input", "uint8.*found DT_FLOAT"),
        ("batched", r"found DT_UINT8 \[-1, -1, -1, 3\]"),
        ("double_output", "found DT_DOUBLE"),
        ("misnamed_output", "expected the output 'global_descriptor'"),
        ("", "found none. It lies in 'batched'"),
        ("missing", "expected a SavedModel's folder"),
    ],
)
def test_refuses_a_saved_model_that_the_contest_cannot_call(model, message, tiny_saved_models, tmp_path):
    with pytest.raises(SubmissionError, match=message):
        pack.pack(tiny_saved_models / model, tmp_path / "upload", owner="someone")
    assert not (tmp_path / "upload").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xff not a protocol buffer"])
def test_refuses_a_broken_saved_model(content, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(SubmissionError, match="is not a SavedModel"):
        pack.check_saved_model(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        {"owner": ""},
        {"owner": "some/one"},
        {"owner": "INSERT_OWNER_HERE"},
        {"owner": "someone", "slug": "short"},
        {"owner": "someone", "slug": "s" * 51},
        {"owner": "someone", "slug": "Not A Slug"},
        {"owner": "someone", "title": "short"},
        {"owner": "someone", "title": "t" * 51},
    ],
)
def test_refuses_names_that_kaggle_refuses(names, saved_model, tmp_path):
    with pytest.raises(SubmissionError, match=r"dataset-metadata\.json: expected"):
        pack.pack(saved_model, tmp_path / "upload", **names)
    assert not (tmp_path / "upload").exists()


def test_the_committed_metadata_is_valid():
    pack.check_metadata(committed_metadata(), pack.HERE)
    assert committed_metadata()["id"] == "landmark-zoo/landmark-zoo-ensemble"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subtitle": "too short"}, "subtitle of 20 to 80"),
        ({"subtitle": "s" * 81}, "subtitle of 20 to 80"),
        ({"description": "INSERT_DESCRIPTION_HERE"}, "placeholder"),
        ({"licenses": []}, "exactly one license"),
        ({"licenses": [{"name": "other"}, {"name": "CC0-1.0"}]}, "exactly one license"),
        ({"licenses": [{"title": "other"}]}, "exactly one license"),
        ({"resources": [{"path": "absent.csv"}]}, "absent.csv"),
        ({"resources": [{"path": "README.md"}, {"path": "README.md"}]}, "no resource twice"),
    ],
)
def test_refuses_metadata_that_kaggle_refuses(change, message):
    with pytest.raises(SubmissionError, match=message):
        pack.check_metadata(committed_metadata() | change, pack.HERE)


def test_in_place_it_keeps_an_earlier_submission(saved_model, tmp_path, monkeypatch):
    here = shutil.copytree(pack.HERE, tmp_path / "submission", ignore=shutil.ignore_patterns("*.zip", "__pycache__"))
    monkeypatch.setattr(pack, "HERE", here)
    (here / pack.ZIP).write_bytes(b"somebody else's")
    with pytest.raises(OutputError, match="--overwrite"):
        pack.pack(saved_model, here, owner="someone")
    assert (here / pack.ZIP).read_bytes() == b"somebody else's"
    assert json.loads((here / pack.METADATA).read_text())["id"].startswith("landmark-zoo/")
    assert pack.pack(saved_model, here, owner="someone", title="Another title", overwrite=True) == here / pack.ZIP
    assert zipfile.is_zipfile(here / pack.ZIP)
    metadata = json.loads((here / pack.METADATA).read_text())
    assert (metadata["id"], metadata["title"]) == ("someone/landmark-zoo-ensemble", "Another title")
    assert (here / "pack.py").is_file() and not list(here.glob(".*partial"))


def test_never_replaces_the_model_the_repository_or_a_full_folder(saved_model, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="letter.txt"):
        pack.pack(saved_model, full, owner="someone")
    assert os.listdir(full) == ["letter.txt"]
    for out in (saved_model, saved_model.parent, saved_model / "upload", pack.HERE.parent):
        with pytest.raises(OutputError, match="Choose another --out"):
            pack.pack(saved_model, out, owner="someone", overwrite=True)
    assert (saved_model / "saved_model.pb").is_file()


def test_refuses_included_folders_and_names_taken(saved_model, tmp_path):
    taken = tmp_path / pack.METADATA
    taken.write_text("{}")
    for file, message in ((saved_model, "skips folders"), (taken, "already has a file named")):
        with pytest.raises(SubmissionError, match=message):
            pack.pack(saved_model, tmp_path / "upload", owner="someone", include=[file])


def test_the_command_runs_from_anywhere(saved_model, tmp_path):
    options = ["--saved-model", saved_model.name, "--owner", "someone", "--out", "upload"]
    command = [sys.executable, pack.HERE / "pack.py", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "upload" / pack.ZIP)
    again = subprocess.run([*command, "--slug", "short"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "Traceback" not in again.stderr and again.stdout == ""


RUN_NOTEBOOK = """
import json, os, sys
cells, cases = json.load(sys.stdin)
outcomes = {}
for name, (source, output) in cases.items():
    os.environ.update(LANDMARK_ZOO_INPUT=source, LANDMARK_ZOO_OUTPUT=output)
    scope = {}
    try:
        for cell in cells:
            exec(compile(cell, name, "exec"), scope)
        outcomes[name] = "done"
    except Exception as error:
        outcomes[name] = f"{type(error).__name__}: {error}"
json.dump(outcomes, open(sys.argv[1], "w"))
"""


def test_the_notebook_writes_the_same_zip_whatever_kaggle_did(saved_model, tmp_path):
    notebook = nbformat.read(pack.HERE / pack.NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    packed = pack.pack(saved_model, tmp_path / "upload", owner="someone")
    original = packed.read_bytes()

    def mount(case: str, place: str, unpacked_in: str | None) -> Path:
        folder = shutil.copytree(packed.parent, tmp_path / case / place)
        (tmp_path / case / "the-contest" / "index" / "0").mkdir(parents=True)
        if unpacked_in is not None:
            shutil.copytree(saved_model, folder / unpacked_in, dirs_exist_ok=True)
            (folder / pack.ZIP).unlink()
        return folder

    mount("whole", "landmark-zoo-ensemble", None)
    mount("unpacked", "landmark-zoo-ensemble", ".")
    mount("unpacked_below", "datasets/someone/landmark-zoo-ensemble", "submission")
    (mount("corrupt", "landmark-zoo-ensemble", ".") / "variables" / "variables.index").write_bytes(b"other")
    (mount("lost", "landmark-zoo-ensemble", None) / pack.ZIP).unlink()
    (tmp_path / "empty").mkdir()
    names = ["whole", "unpacked", "unpacked_below", "corrupt", "lost", "empty"]
    cases = {name: (str(tmp_path / name), str(tmp_path / "out" / name / "submission.zip")) for name in names}
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    subprocess.run(
        [sys.executable, "-c", RUN_NOTEBOOK, tmp_path / "outcomes.json"],
        input=json.dumps([cells, cases]),
        text=True,
        check=True,
        cwd=tmp_path,
    )
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    for name in ("whole", "unpacked", "unpacked_below"):
        assert outcomes[name] == "done"
        with zipfile.ZipFile(cases[name][1]) as archive:
            assert archive.namelist() == sorted(json.loads((packed.parent / pack.LISTING).read_text()))
        assert Path(cases[name][1]).read_bytes() == original
    for name, message in (("corrupt", "SHA-256"), ("lost", "found neither"), ("empty", "expected one data")):
        assert message in outcomes[name]
        assert not Path(cases[name][1]).exists()


def with_manifest(folder: Path, **changes: object) -> Path:
    """The model with another manifest."""
    write_manifest(folder, dataclasses.replace(require_manifest(folder), **changes))
    return folder


def test_refuses_a_model_without_a_manifest(saved_model, tmp_path):
    shutil.rmtree(saved_model / "assets.extra")
    with pytest.raises(SubmissionError, match=r"no assets.extra/landmark_zoo.json.*export/to_savedmodel.py"):
        pack.pack(saved_model, tmp_path / "upload", owner="someone")
    assert not (tmp_path / "upload").exists()


def test_refuses_a_model_whose_parity_is_missing_or_failed(saved_model, tmp_path):
    manifest = require_manifest(saved_model)
    failed = [dataclasses.replace(manifest.parity[0], max_abs=1e-3)]
    source = manifest.sources[0]
    for changes, message in (
        ({"parity": None}, "parity of resnet18 was not measured"),
        ({"parity": failed}, "torch → tf 2.2 of resnet18 .torch. differs by 1.0e-03"),
        ({"sources": [dataclasses.replace(source, parity=[])]}, "was not measured"),
        ({"sources": [dataclasses.replace(source, parity=failed)]}, "differs by"),
        ({"check": None}, "not accepted by TensorFlow 2.2"),
        ({"check": dataclasses.replace(manifest.check, accepted=False)}, "not accepted by TensorFlow 2.2"),
    ):
        write_manifest(saved_model, dataclasses.replace(manifest, **changes))
        with pytest.raises(SubmissionError, match=message):
            pack.pack(saved_model, tmp_path / "upload", owner="someone")
    assert not (tmp_path / "upload").exists()


def test_a_tolerance_in_the_file_is_not_believed(saved_model, tmp_path):
    """A row with a tolerance of 1 is still compared with the project's own table."""
    rows = [dataclasses.replace(require_manifest(saved_model).parity[0], max_abs=0.5, tolerance=1.0)]
    with pytest.raises(SubmissionError, match="outside its tolerance"):
        pack.pack(with_manifest(saved_model, parity=rows), tmp_path / "upload", owner="someone")


def test_the_model_card_says_where_the_model_comes_from(saved_model, tmp_path):
    path = pack.pack(
        with_manifest(saved_model, combined=Combined([0.7, 1.0], True, "l2")), tmp_path / "u", owner="someone"
    )
    text = (path.parent / model_card.FILE).read_text(encoding="utf-8")
    assert "| resnet18 | torch | 224 | 512 | 1 | `0000000000000000` |" in text
    assert "scales 0.7, 1 and mirror images" in text
    assert "| torch → tf 2.2 | resnet18 (torch) | several | 3.0e-07 | 1e-05 | 1.000000000 |" in text
    assert "2.2.0 (it ran this file)" in text
