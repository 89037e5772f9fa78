"""The README and the documentation name only what exists, their tables match the measured figures, and the site builds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import generate
from landmark_zoo.__main__ import COMMANDS, GROUPS
from zoo.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
PAGES = generate.pages(ROOT)
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "submission" / "README.md"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _exists(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_every_code_fence_has_a_language(path: Path):
    fences = re.findall(r"^ *```(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(fences[::2]), fences[::2]


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_the_commands_and_files_it_names_exist(path: Path):
    text = path.read_text(encoding="utf-8")
    files = re.findall(r"(?:python |--recipe |`)((?:[\w.-]+/)+[\w.-]+\.(?:py|yaml|json|csv|md|ipynb))\b", text)
    made = ("runs/", "saved_model/", "assets.extra/", "other/", "DATA/", ".venv")  # what commands write
    assert not [name for name in files if not name.startswith(made) and not (ROOT / name).is_file()]
    ours = {path.name for path in ROOT.iterdir() if path.is_dir()}
    modules = [name for name in re.findall(r"python -m ([\w.]+)", text) if name.split(".")[0] in ours]
    assert not [name for name in modules if not _exists(name)]


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_the_sub_commands_it_names_exist(path: Path):
    fences = re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    groups = "|".join(GROUPS)
    used = re.findall(rf"^landmark-zoo ((?:(?:{groups}) )?[\w-]+)", "\n".join(fences), re.MULTILINE)
    assert not [name for name in used if not name.startswith("-") and name not in COMMANDS]


def test_the_documentation_names_many_commands():
    text = "\n".join(path.read_text(encoding="utf-8") for path in TEXTS)
    assert len(set(re.findall(r"python -m ([\w.]+)", text))) > 12


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_relative_links_lead_to_files(path: Path):
    links = re.findall(r"(?<=[\w`]\]\()([\w./-]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8"))
    github = "../../actions/"  # a page of the repository on GitHub, not a file
    assert not [link for link in links if not link.startswith(github) and not (path.parent / link).exists()]


def test_the_tables_are_what_the_figures_say():
    tables = generate.tables()
    text = {path: path.read_text(encoding="utf-8") for path in PAGES}
    old = [_name(path) for path in PAGES if generate.with_tables(text[path], tables) != text[path]]
    assert not old, f"run `python docs/generate.py`: its tables in {', '.join(old)} are older than the figures"
    everything = "\n".join(text.values())
    assert not [name for name in tables if f"<!-- {name} -->" not in everything]


def test_a_mark_that_names_no_table_is_an_error():
    with pytest.raises(DataError, match="parity"):
        generate.with_tables("<!-- partity -->\n<!-- /partity -->\n", {"parity": ""})
    with pytest.raises(DataError, match="parity"):
        generate.with_tables("<!-- parity -->\n", {"parity": ""})


@pytest.mark.parametrize("name", ["parity", "full size", "re-ranking", "a (b)"])
def test_a_table_replaces_what_stood_between_its_marks(name):
    page = f"before\n<!-- {name} -->\n\nold\n\n<!-- /{name} -->\nafter\n"
    assert generate.with_tables(page, {name: "new"}) == page.replace("old", "new")


def test_the_site_builds_without_warnings(tmp_path: Path):
    pytest.importorskip("material", reason="needs the extra docs: pip install -e '.[docs]'")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # a notice of the theme, not about our pages
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert (tmp_path / "site" / "index.html").is_file()
