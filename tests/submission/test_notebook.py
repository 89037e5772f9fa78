"""The submission notebook in a real Jupyter kernel, on a packed data set as Kaggle mounts it: whole, unpacked or damaged."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from submission import pack

START = """
import os, socket
os.environ.update(LANDMARK_ZOO_INPUT={source!r}, LANDMARK_ZOO_OUTPUT={output!r})
def refuse(*address, **_):
    raise OSError(f"Kaggle runs the notebook without internet, and it connects to {{address}}")
socket.create_connection = socket.getaddrinfo = refuse
"""
END = "get_ipython().reset(new_session=False)"
"""Forgets the notebook's names; modules stay imported, so that TensorFlow is imported once."""
Runner = Callable[[Path, Path], str]


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(pack.HERE / pack.NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def run_all_cells(notebook, tmp_path_factory) -> Iterator[Runner]:
    """Runs every cell for a folder of mounted data sets and an output, and returns what was printed.

    The kernel runs in an empty folder, outside of the repository, and is spoken to through Unix sockets.
    """
    copy = deepcopy(notebook)
    client = NotebookClient(copy, timeout=120, kernel_name="python3")
    manager = client.create_kernel_manager()
    manager.transport, manager.ip = "ipc", str(tmp_path_factory.mktemp("sockets") / "kernel")
    code = [cell for cell in copy.cells if cell.cell_type == "code"]

    def run(source: Path, output: Path) -> str:
        cells = [nbformat.v4.new_code_cell(START.format(source=str(source), output=str(output))), *code]
        printed = []
        try:
            for cell in cells:
                done = client.execute_cell(cell, 0)
                printed += [part["text"] for part in done["outputs"] if part["output_type"] == "stream"]
        finally:
            client.execute_cell(nbformat.v4.new_code_cell(END), 0)
        return "".join(printed)

    with client.setup_kernel(cwd=str(tmp_path_factory.mktemp("working"))):
        yield run


@pytest.fixture(scope="module")
def packed(tiny_saved_models, tmp_path_factory) -> Path:
    """The packed submission.zip; its SavedModel also has an asset, and a file that TensorFlow does not know."""
    folder = tmp_path_factory.mktemp("packed")
    saved_model = shutil.copytree(tiny_saved_models / "good", folder / "model")
    (saved_model / "assets").mkdir(exist_ok=True)
    (saved_model / "assets" / "names.txt").write_text("asset")
    return pack.pack(saved_model, folder / "upload", owner="someone", verified=False)


def mount(packed: Path, place: Path, *, unpacked_in: str | None = None) -> Path:
    """Copies the data set to where Kaggle mounts it, beside the contest's images; optionally unpacks its zip, as Kaggle may."""
    folder = shutil.copytree(packed.parent, place)
    if unpacked_in is not None:
        (folder / pack.ZIP).unlink()
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder / unpacked_in)
    return folder


def test_it_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


@pytest.mark.parametrize(
    ("place", "unpacked_in"),
    [
        ("landmark-zoo-ensemble", None),
        ("landmark-zoo-ensemble", "."),
        ("datasets/someone/landmark-zoo-ensemble", "submission"),
    ],
)
def test_it_writes_the_zip_that_was_packed(place, unpacked_in, packed, run_all_cells, tmp_path):
    mount(packed, tmp_path / "input" / place, unpacked_in=unpacked_in)
    (tmp_path / "input" / "landmark-retrieval-2020" / "index" / "0").mkdir(parents=True)
    output = tmp_path / "working" / "submission.zip"
    printed = run_all_cells(tmp_path / "input", output)
    assert output.read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == sorted(json.loads((packed.parent / pack.LISTING).read_text(encoding="utf-8")))
    assert "global_descriptor" in printed
    assert os.listdir(output.parent) == [output.name]


def replace_a_file(folder: Path) -> None:
    (folder / "variables" / "variables.index").write_bytes(b"other")


def lose_the_model(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in (pack.LISTING, pack.NOTEBOOK):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def lose_the_listing(folder: Path) -> None:
    (folder / pack.LISTING).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [(replace_a_file, "SHA-256"), (lose_the_model, "found neither"), (lose_the_listing, "expected one data set")],
)
def test_it_writes_nothing_from_a_damaged_data_set(damage, message, packed, run_all_cells, tmp_path):
    damage(mount(packed, tmp_path / "input" / "landmark-zoo-ensemble", unpacked_in="."))
    with pytest.raises(CellExecutionError, match=message):
        run_all_cells(tmp_path / "input", tmp_path / "submission.zip")
    assert not (tmp_path / "submission.zip").exists()
