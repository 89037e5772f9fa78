"""The search page as a command: a real SavedModel, a foreign directory, Ctrl-C, and what prevents it from starting."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from landmark_zoo.__main__ import dispatch
from retrieval.data.gldv2 import Gldv2
from retrieval.embeddings import Embeddings
from retrieval.serve.server import ServeError, listen
from retrieval.store import Store, in_memory
from tests.default_signals import default_signals
from tests.retrieval.serve.small_town import NAMES, image_id, write_town
from zoo.errors import DataError
from zoo.processes import module_environment

SERVE = ["-m", "landmark_zoo", "serve", "--model", "model", "--data", "data", "--port", "0", "--store"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_saved_models: Path) -> Path:
    """The directory that the commands run in: a SavedModel, a data set and its index."""
    folder = tmp_path_factory.mktemp("desk") / "Schöne Fotos α"
    (folder / "data").mkdir(parents=True)
    write_town(folder / "data")
    # Its manifest is another network's, for the tests of packing.
    shutil.copytree(tiny_saved_models / "good", folder / "model", ignore=shutil.ignore_patterns("assets.extra"))
    embed = ["-m", "export.embed", "model", "--data", "data", "--out", "index"]
    subprocess.run([sys.executable, *embed], cwd=folder, env=module_environment(), check=True, capture_output=True)
    return folder


@contextmanager
def started(folder: Path, store: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, *SERVE, store],
        cwd=folder,
        env=module_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_saved_model_is_served_until_ctrl_c(desk):
    with started(desk, "index") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        photograph = Gldv2(desk / "data").image_path("index", image_id("index", 6)).read_bytes()
        hits = httpx.post(f"{address}search", content=photograph, timeout=120).json()["hits"]
        assert (hits[0]["row"], hits[0]["landmark"]) == (6, NAMES[1])
        assert hits[0]["distance"] == pytest.approx(0, abs=2e-3)  # its row was rounded to float16
        assert httpx.get(f"{address}images/6").headers["content-type"] == "image/jpeg"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert out == ""
    assert errors.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert sorted(os.listdir(desk)) == ["data", "index", "model"]


def test_a_store_of_another_model_is_refused(desk):
    found = in_memory(Store.open(desk / "index"))
    Embeddings(found.ids, found.descriptors, found.source | {"checkpoint": "0" * 64}).save(desk / "other.safetensors")
    with started(desk, "other.safetensors") as process:
        out, errors = process.communicate(timeout=120)
    (desk / "other.safetensors").unlink()
    assert (process.returncode, out) == (2, "")
    assert errors.splitlines()[-1].startswith("error: the store and the model are of different models")


def test_a_port_in_use_is_found_before_anything_is_read(tmp_path):
    with listen("127.0.0.1", 0) as other:
        words = ["--model", str(tmp_path / "none"), "--store", str(tmp_path / "none"), "--port"]
        with pytest.raises(ServeError, match="another program uses the port"):
            dispatch(["serve", *words, str(other.getsockname()[1])])
    with pytest.raises(DataError, match="none"):
        dispatch(["serve", *words, "0"])
