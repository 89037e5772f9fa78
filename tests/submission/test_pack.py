"""What is uploaded to Kaggle: a folder with the zip, and no model that the contest would refuse or that nobody has measured."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from submission import metadata, pack
from zoo.errors import OutputError, SubmissionError
from zoo.manifest import Combined, require_manifest, write_manifest
from zoo.specs import ImportedSpec

UPLOADED = {*pack.FILES}


def pack_unrun(saved_model: Path, out: Path, **options) -> Path:
    """`pack.pack` without TensorFlow 2.2, which takes seconds; `test_rehearsal` is about it."""
    return pack.pack(saved_model, out, **{"owner": "someone", "verified": False} | options)


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
    path = pack_unrun(saved_model, tmp_path / "upload", include=[card])
    assert path == tmp_path / "upload" / pack.ZIP
    assert {p.name for p in path.parent.iterdir() if p.is_file()} == UPLOADED | {"NOTES.md"}
    assert not [p for p in path.parent.iterdir() if p.is_dir()], "Kaggle's client skips folders"
    with zipfile.ZipFile(path) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == {
        p.relative_to(saved_model).as_posix(): p.read_bytes() for p in saved_model.rglob("*") if p.is_file()
    }
    assert "saved_model.pb" in packed and "variables/variables.data-00000-of-00001" in packed
    facts = metadata.read_metadata(path.parent / pack.METADATA)
    assert facts["id"] == "someone/landmark-zoo-ensemble"
    metadata.check_metadata(facts, os.listdir(path.parent))


def test_the_same_model_gives_the_same_bytes(saved_model, tmp_path):
    first = pack_unrun(saved_model, tmp_path / "first").read_bytes()
    for file in saved_model.rglob("*"):
        os.utime(file, (10**9, 10**9))
    (saved_model / "saved_model.pb").chmod(0o600)
    assert pack_unrun(saved_model, tmp_path / "second").read_bytes() == first


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_contest_signature", "expected the signature 'serving_default'"),
        ("two_inputs", "only input.*'weight'"),
        ("float_input", "uint8.*found DT_FLOAT"),
        ("batched", r"found DT_UINT8 \[-1, -1, -1, 3\]"),
        ("double_output", "found DT_DOUBLE"),
        ("misnamed_output", "expected the output 'global_descriptor'"),
        ("nan_weights", "NaN|not finite"),
        ("", "found none. It lies in '"),
        ("missing", "expected a SavedModel's folder"),
    ],
)
def test_refuses_a_saved_model_that_the_contest_cannot_call(model, message, tiny_saved_models, tmp_path):
    with pytest.raises(SubmissionError, match=message):
        pack_unrun(tiny_saved_models / model, tmp_path / "upload")
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
        pack_unrun(saved_model, tmp_path / "upload", **names)
    assert not (tmp_path / "upload").exists()


def test_the_facts_of_the_data_set_can_be_ones_own(saved_model, tmp_path):
    given = {"id": "me/my-own-set", "title": "My own set", "licenses": [{"name": "unknown"}], "keywords": ["retrieval"]}
    (tmp_path / "mine.json").write_text(json.dumps(given))
    made = pack_unrun(saved_model, tmp_path / "a", metadata=tmp_path / "mine.json").parent
    assert metadata.read_metadata(made / pack.METADATA) == given | {"id": "someone/my-own-set"}
    options = {
        "slug": "another-set",
        "title": "Another set",
        "licence": "CC-BY-4.0",
        "metadata": tmp_path / "mine.json",
    }
    made = pack_unrun(saved_model, tmp_path / "b", **options).parent
    changed = {"id": "someone/another-set", "title": "Another set", "licenses": [{"name": "CC-BY-4.0"}]}
    assert metadata.read_metadata(made / pack.METADATA) == given | changed
    with pytest.raises(SubmissionError, match="Kaggle writes it 'CC-BY-4.0'"):
        pack_unrun(saved_model, tmp_path / "c", licence="cc-by-4.0")
    assert not (tmp_path / "c").exists()


def test_nothing_is_made_among_the_projects_own_files(saved_model):
    before = sorted(pack.HERE.rglob("*"))
    for out in (pack.HERE, pack.HERE / "upload"):
        with pytest.raises(OutputError, match="own files"):
            pack_unrun(saved_model, out, overwrite=True)
    assert sorted(pack.HERE.rglob("*")) == before


def test_never_replaces_the_model_the_repository_or_a_full_folder(saved_model, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="letter.txt"):
        pack_unrun(saved_model, full)
    assert os.listdir(full) == ["letter.txt"]
    for out in (saved_model, saved_model.parent, saved_model / "upload", pack.HERE.parent):
        with pytest.raises(OutputError, match="Choose another --out"):
            pack_unrun(saved_model, out, overwrite=True)
    assert (saved_model / "saved_model.pb").is_file()


def test_refuses_included_folders_and_names_taken(saved_model, tmp_path):
    taken = tmp_path / pack.METADATA
    taken.write_text("{}")
    skipped = tmp_path / "kernel-metadata.json"  # Kaggle's client would leave it out without a word
    skipped.write_text("{}")
    for file, message in (
        (saved_model, "skips folders"),
        (taken, "already has a file named"),
        (skipped, "leaves it out"),
    ):
        with pytest.raises(SubmissionError, match=message):
            pack_unrun(saved_model, tmp_path / "upload", include=[file])


def test_the_command_runs_from_anywhere(saved_model, tmp_path):
    options = ["--saved-model", saved_model.name, "--owner", "someone", "--out", "upload", "--no-verify"]
    command = [sys.executable, pack.HERE / "pack.py", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"upload/{pack.ZIP}" and (tmp_path / "upload" / pack.ZIP).is_file()
    assert "NOT VERIFIED (--no-verify)" in done.stderr and "kaggle datasets create -p upload " in done.stderr
    again = subprocess.run([*command, "--slug", "short"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 2 and "Traceback" not in again.stderr and again.stdout == ""


def with_manifest(folder: Path, **changes: object) -> Path:
    """The model with another manifest."""
    write_manifest(folder, dataclasses.replace(require_manifest(folder), **changes))
    return folder


def test_refuses_a_model_without_a_manifest(saved_model, tmp_path):
    shutil.rmtree(saved_model / "assets.extra")
    with pytest.raises(SubmissionError, match=r"no assets.extra/landmark_zoo.json.*export/to_savedmodel.py"):
        pack_unrun(saved_model, tmp_path / "upload")
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
        ({"check": dataclasses.replace(manifest.check, tensorflow="2.13.0")}, "made for TensorFlow 2.13.0 .--tf."),
    ):
        write_manifest(saved_model, dataclasses.replace(manifest, **changes))
        with pytest.raises(SubmissionError, match=message):
            pack_unrun(saved_model, tmp_path / "upload")
    assert not (tmp_path / "upload").exists()


def test_refuses_a_manifest_of_another_graph(saved_model, tiny_saved_models, tmp_path):
    """As after copying a new graph into an old export, or an old manifest to a new one."""
    shutil.copyfile(tiny_saved_models / "another" / "saved_model.pb", saved_model / "saved_model.pb")
    with pytest.raises(SubmissionError, match="not written for its graph and variables"):
        pack_unrun(saved_model, tmp_path / "upload")
    place = saved_model / "assets.extra" / "landmark_zoo.json"
    older = json.loads(place.read_text())
    place.write_text(json.dumps({key: value for key, value in older.items() if key != "saved_model_sha256"}))
    with pytest.raises(SubmissionError, match="an older version"):
        pack_unrun(saved_model, tmp_path / "upload")
    assert not (tmp_path / "upload").exists()


@pytest.mark.parametrize("figures", [{"max_abs": float("nan")}, {"cosine": float("nan")}, {"arrow": "guessed"}])
def test_refuses_parity_that_is_not_a_number_or_of_no_known_step(figures, saved_model):
    rows = [dataclasses.replace(require_manifest(saved_model).parity[0], **figures)]
    with pytest.raises(SubmissionError):
        pack.check_saved_model(with_manifest(saved_model, parity=rows))


def test_a_tolerance_in_the_file_is_not_believed(saved_model, tmp_path):
    """A row with a tolerance of 1 is still compared with the project's own table."""
    rows = [dataclasses.replace(require_manifest(saved_model).parity[0], max_abs=0.5, tolerance=1.0)]
    with pytest.raises(SubmissionError, match="outside its tolerance"):
        pack_unrun(with_manifest(saved_model, parity=rows), tmp_path / "upload")


def test_the_model_card_says_where_the_model_comes_from(saved_model, tmp_path):
    path = pack_unrun(with_manifest(saved_model, combined=Combined([0.7, 1.0], True, "l2")), tmp_path / "u")
    text = (path.parent / pack.MODEL_CARD).read_text(encoding="utf-8")
    assert "| resnet18 | torch | 224 | 512 | 1 | `0000000000000000` |" in text
    assert "scales 0.7, 1 and mirror images" in text
    assert "| torch → tf 2.2 | resnet18 (torch) | several | 3.0e-07 | 1e-05 | 1.000000000 |" in text
    assert "2.2.0 (it ran this file)" in text


def test_a_network_from_elsewhere_needs_its_licence_stated(saved_model, tmp_path):
    source = require_manifest(saved_model).sources[0]
    spec = ImportedSpec("efficientnet_b0", source.spec.preprocess, source.spec.embedding_size)
    foreign = dataclasses.replace(source, spec=spec, exported_from="onnx")
    folder = with_manifest(saved_model, sources=[foreign])
    with pytest.raises(SubmissionError, match=r"contains efficientnet_b0, which came from elsewhere.*--licence"):
        pack_unrun(folder, tmp_path / "upload")
    assert not (tmp_path / "upload").exists()
    pack_unrun(folder, tmp_path / "upload", licence="apache-2.0")
    card = (tmp_path / "upload" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| efficientnet_b0 | elsewhere (an ONNX file) |" in card
    assert "Except efficientnet_b0" in card and "stated apache-2.0" in card
