"""Every published figure names the commit that made it, and one that the current code did not make is marked as older."""

import ast
import json
from pathlib import Path

import pytest

from benchmarks.results_files import CODE, FOLDER
from parity_tests import provenance
from parity_tests.results_table import is_older, read

DOCS = Path(__file__).resolve().parents[2] / "docs"
OLDER_NETWORKS: set[tuple[str, str]] = set()
"""(model, framework) of full-size rows that other code made: to be measured again with `python -m parity_tests.full_size`."""
OLDER_BENCHMARKS = {"training", "head", "photographs", "gpu", "schedule", "kills"}
"""Files in benchmarks/results that other code made; docs/benchmarks.md has the commands that measure them again."""


def test_every_small_network_was_measured_with_the_current_code():
    stale = sorted(
        {
            f"{r['model']} ({r['framework']}), by {r['commit']}"
            for r in read()
            if is_older(r) and "small" in r["network"]
        }
    )
    assert not stale, "run `pytest parity_tests/test_matrix.py --write-parity`:\n" + "\n".join(stale)


def test_full_size_networks_of_other_code_are_known():
    """A row that gets stale fails here, and so does one that has been measured again and is still called older."""
    rows = [row for row in read() if row["network"] == "full size"]
    assert {(row["model"], row["framework"]) for row in rows if is_older(row)} == OLDER_NETWORKS


def test_benchmarks_of_other_code_are_known():
    found = {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["made_by"] for name in CODE}
    assert {
        name for name, made in found.items() if made["code"] != provenance.code_hash(CODE[name])
    } == OLDER_BENCHMARKS


def test_every_figure_names_its_commit():
    assert all(row["commit"] for row in read())
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CODE)
    for name in CODE:
        assert json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["made_by"]["commit"]


def test_the_documentation_marks_what_is_older():
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    for name in CODE:
        [line] = [line for line in text.splitlines() if line.startswith(f"| {name.replace('_', ' ')} | `")]
        assert ("older" in line) == (name in OLDER_BENCHMARKS), line
    for model, framework in OLDER_NETWORKS:
        lines = (DOCS / "parity.md").read_text(encoding="utf-8").splitlines()
        [line] = [line for line in lines if line.startswith(f"| {model} | {framework} |")]
        assert "older" in line


def test_exported_networks_depend_on_all_that_their_form_and_their_writer_import():
    waiting, found = {"export.normal_form.rewrites", "export.normal_form.half", "export.writer.graph"}, set()
    while waiting:
        found.add(module := waiting.pop())
        tree = ast.parse(provenance.ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        waiting |= {name for name in imported if name.startswith(("export.normal_form.", "export.writer."))} - found
    assert len(found) > 8
    assert {f"{name.replace('.', '/')}.py" for name in found} <= set(provenance.EXPORTED)


SOURCE = '''"""A module."""
import os
from zoo.one import width

def area(height: int) -> int:
    """Height times width."""
    return height * width  # in pixels
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("Height times width.", "The area.", True),
        ("# in pixels", "", True),
        ("zoo.one", "zoo.two", True),
        ("height * width", "height + width", False),
        ("import width", "import depth as width", False),
        ("height * width", "height * width * 2", False),
    ],
)
def test_a_hash_follows_what_is_computed_only(tmp_path, before, after, same):
    hashes = []
    for text in (SOURCE, SOURCE.replace(before, after)):
        (tmp_path / "module.py").write_text(text)
        hashes.append(provenance.code_hash.__wrapped__(("module.py",), tmp_path))
    assert before in SOURCE
    assert (hashes[0] == hashes[1]) == same


def test_a_pattern_without_files_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        provenance.code_hash(("gone.py",), tmp_path)
