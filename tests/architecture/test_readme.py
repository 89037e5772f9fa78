"""The README speaks of commands and files that exist, and its tables have places."""

import re
from pathlib import Path

from benchmarks.readme import replace_tables

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_files_it_names_exist():
    for name in re.findall(r"(?:python |python -m |`)((?:\w+[/.])+\w+(?:\.py|\.yaml)?)", TEXT):
        path = ROOT / name
        module = ROOT / (name.replace(".", "/") + ".py")
        if name.startswith(("runs/", "train/")) or name.endswith((".csv", ".json", ".onnx")):
            continue
        assert path.exists() or module.exists() or name.split(".")[0] in ("TensorFlow", "zoo"), name


def test_every_table_has_its_place():
    tables = {"scores": "1", "parity": "2", "seconds": "3", "full size": "4"}
    replaced = replace_tables(TEXT, tables)
    for name, table in tables.items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in replaced


def test_the_tables_are_filled():
    for name in ("scores", "parity", "seconds", "full size"):
        body = TEXT.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
        assert body.count("\n|") > 3, f"`python -m benchmarks.readme` writes the table {name!r}"
