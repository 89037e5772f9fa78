"""Kaggle's real client, without a network, on packed folders: what it would upload, and what it refuses."""

import itertools
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from submission import metadata, pack
from zoo.errors import SubmissionError

CLIENT = Path(__file__).with_name("kaggle_client.py")
if find_spec("kaggle") is None and not os.environ.get("CI"):
    pytest.skip("needs Kaggle's client: pip install 'landmark-zoo[kaggle]'", allow_module_level=True)


def ask_client(*calls: tuple[str, Path]) -> list[dict[str, Any]]:
    """The client's answers to ("create" or "version", folder)."""
    text = json.dumps([(call, str(folder)) for call, folder in calls])
    done = subprocess.run([sys.executable, CLIENT], input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["connections"] == []
    return found["answers"]


@pytest.fixture(scope="module")
def upload(tiny_saved_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "upload"
    notes = tmp_path_factory.mktemp("notes") / "NOTES.md"
    notes.write_text("parity 1e-6")
    pack.pack(tiny_saved_models / "good", folder, owner="someone", include=[notes], verified=False)
    return folder


def test_what_would_be_uploaded(upload):
    create, version, ours = ask_client(("create", upload), ("version", upload), ("create", pack.HERE))
    facts = metadata.read_metadata(metadata.TEMPLATE)
    described = {resource["path"]: resource["description"] for resource in facts["resources"]}
    files = {name: described.get(name) for name in (*pack.FILES, "NOTES.md") if name != metadata.FILE}
    assert {name: text or None for name, text in create["files"].items()} == files
    assert create["status"] == version["status"] == "ok"
    assert create["private"] is True
    assert (create["owner"], create["slug"]) == ("someone", "landmark-zoo-ensemble")
    assert create["licence"] == "other"
    assert (create["title"], create["subtitle"], create["description"]) == (
        facts["title"],
        facts["subtitle"],
        facts["description"],
    )
    for key in ("files", "owner", "slug", "subtitle", "description"):
        assert version[key] == create[key], key
    assert "Metadata file not found" in ours["refused"], (
        "this repository's folder holds no model and must not be uploaded"
    )


WRONG: dict[str, list[Any]] = {
    "id": [None, 3, "", "someone", "someone/", "someone/short", f"someone/{'s' * 51}", "someone/INSERT_SLUG_HERE"],
    "title": [None, [], "", "short", "t" * 51, "INSERT_TITLE_HERE"],
    "subtitle": [5, "too short", "s" * 81],
    "description": [7, ["a list"]],
    "licenses": [
        None,
        [],
        {},
        "other",
        [{}],
        [{"title": "other"}],
        [{"name": "other"}, {"name": "CC0-1.0"}],
        ["other"],
    ],
    "keywords": [7, [3], {"a": 1}],
    "resources": [
        7,
        ["README.md"],
        [{"path": "absent.csv"}],
        [{"description": "no path"}],
        [{"path": None}],
        [{"path": "README.md"}, {"path": "README.md"}],
        [{"path": "README.md", "description": 3}],
        [{"path": "README.md", "schema": {"fields": [{"title": "no name"}]}}],
    ],
    "id_no": ["many", [], -1],
}
"""Values that a data set's facts must not have; None stands for a key that is not there."""
RIGHT: dict[str, list[Any]] = {
    "id": ["someone/sixsix", f"someone/{'s' * 50}"],
    "title": ["sixsix", "t" * 50],
    "subtitle": [None, "s" * 20, "s" * 80],
    "description": [None, "ö → 猫"],
    "licenses": [[{"name": name}] for name in metadata.LICENCES],
    "keywords": [None, ["retrieval", "landmarks"]],
    "resources": [None, [], [{"path": "README.md"}]],
}


def changed(facts: dict, key: str, value: Any) -> dict:
    return {k: v for k, v in (facts | {key: value}).items() if v is not None}


def test_ours_refuses_what_the_client_refuses_and_accepts_what_it_takes(upload, tmp_path):
    facts, names = metadata.read_metadata(upload / metadata.FILE), os.listdir(upload)
    wrong = [changed(facts, key, value) for key, values in WRONG.items() for value in values]
    right = [changed(facts, key, value) for key, values in RIGHT.items() for value in values]
    folders = []
    for number, variant in enumerate([*wrong, *right]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to(upload / name)
        (folder / metadata.FILE).unlink()
        (folder / metadata.FILE).write_text(json.dumps(variant))
        folders.append(folder)
    calls = list(itertools.product(("create", "version"), folders))
    answers = ask_client(*calls)
    refused_by_client = {folder for (_, folder), answer in zip(calls, answers, strict=True) if "refused" in answer}
    assert refused_by_client, "the client refuses nothing: the comparison would say nothing"
    ours = {}
    for folder in folders:
        try:
            metadata.check_metadata(metadata.read_metadata(folder / metadata.FILE), names)
        except SubmissionError as error:
            ours[folder] = str(error)
    assert not refused_by_client - ours.keys()
    assert ours.keys() == set(folders[: len(wrong)])
