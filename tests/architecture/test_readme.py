"""The README speaks of commands and files that exist, and its tables have places."""

import re
from pathlib import Path

from benchmarks.readme import replace_tables

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("scores", "parity", "seconds", "full size", "serving", "export cost", "grouped", "models")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_commands_it_names_exist():
    scripts = re.findall(r"(?:python |--recipe |`)((?:\w+/)*\w+\.(?:py|yaml))", TEXT)
    modules = [name.replace(".", "/") for name in re.findall(r"python -m ([\w.]+)", TEXT)]
    assert len({*scripts, *modules}) > 8
    assert not [name for name in scripts if "/" in name and not (ROOT / name).is_file()]
    assert not [
        name for name in modules if not (ROOT / f"{name}.py").is_file() and not (ROOT / name / "__main__.py").is_file()
    ]


def test_every_table_has_its_place():
    tables = {name: str(number) for number, name in enumerate(TABLES)}
    replaced = replace_tables(TEXT, tables)
    for name, table in tables.items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in replaced


def test_the_tables_are_filled():
    for name in TABLES:
        body = TEXT.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
        assert body.count("\n|") >= 3, f"`python -m benchmarks.readme` writes the table {name!r}"
