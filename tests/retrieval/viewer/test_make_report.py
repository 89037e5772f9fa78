"""From files of a ranking to the report: predictions, descriptors, tars, a comparison, and what is refused."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from retrieval.data.gldv2 import Gldv2
from retrieval.demo.dataset import DemoSize, write_demo_data
from retrieval.embeddings import Embeddings
from retrieval.search import search
from retrieval.solution import read_retrieval_solution
from retrieval.viewer.configuration import configuration_of
from retrieval.viewer.make_report import make_report, predicted_ranking, report_files
from retrieval.viewer.similarities import Sides
from tests.retrieval.data.tars import as_tars
from zoo.errors import DataError

SMALL = DemoSize(
    train_landmarks=2,
    train_images=1,
    queried_seen=2,
    queried_unseen=0,
    index_images=3,
    queries=2,
    other_images=1,
    distractors=2,
    ignored=1,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A rendered data set, descriptors of its images, and two predictions files."""
    root = tmp_path_factory.mktemp("files")
    (root / "data").mkdir()
    write_demo_data(root / "data", size=SMALL)
    dataset, rng = Gldv2(root / "data"), np.random.default_rng(0)
    for split in ("index", "test"):
        ids = dataset.named_ids(split)
        rows = rng.normal(size=(len(ids), 8)).astype(np.float32)
        Embeddings(ids, rows, {"model": "m", "size": 64}).save(root / split)
    index = dataset.named_ids("index")
    with open(dataset.solution_path, encoding="utf-8", newline="") as file:
        truth = {row["id"]: row["images"].split() for row in csv.DictReader(file) if row["Usage"] != "Ignored"}
    perfect = {
        query: relevant + [image for image in index if image not in relevant] for query, relevant in truth.items()
    }
    for name, ranking in (("perfect.csv", perfect), ("reversed.csv", {q: hits[::-1] for q, hits in perfect.items()})):
        lines = "".join(f"{query},{' '.join(hits)}\n" for query, hits in ranking.items())
        (root / name).write_text(f"id,images\n{lines}", encoding="utf-8")
    return {name: root / name for name in ("data", "index", "test", "perfect.csv", "reversed.csv")}


def data_of(page: Path) -> dict:
    html = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_predictions_alone(files, tmp_path):
    report_files(tmp_path / "r.html", files["data"], predictions=files["perfect.csv"])
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "1.0000" in text and "perfect" in text and "--map" in text
    assert "4 queries (2 public and 2 private) were scored" in " ".join(text.split())
    data = data_of(tmp_path / "r.html")
    assert len(data["queries"]) == 4 and data["pictured"] == len(data["images"])
    assert all(re.fullmatch(r"[A-Z][a-z ]+ \d", name) for name in data["landmarks"])  # the names of the data set


def test_descriptors_are_searched_and_compared(files, tmp_path):
    given = {"index": files["index"], "queries": files["test"]}
    report_files(tmp_path / "r.html", files["data"], **given, compare=files["reversed.csv"])
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Compared with reversed.csv" in text and "exact search" in text and "64 px" in text
    assert data_of(tmp_path / "r.html")["otherName"] == "reversed.csv"


def test_the_map(files, tmp_path):
    pytest.importorskip("openTSNE")
    given = {"index": files["index"], "queries": files["test"], "predictions": files["perfect.csv"]}
    report_files(tmp_path / "r.html", files["data"], **given, with_map=True)
    assert "positions" in data_of(tmp_path / "r.html")["arrays"]


def test_images_in_tars_give_the_same_page(files, tmp_path):
    report_files(tmp_path / "files.html", files["data"], predictions=files["perfect.csv"])
    tars = as_tars(files["data"], tmp_path / files["data"].name)  # the name is the page's title
    report_files(tmp_path / "tars.html", tars, predictions=files["perfect.csv"])
    assert (tmp_path / "tars.html").read_bytes() == (tmp_path / "files.html").read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected --predictions, or --index and --queries"),
        ({"index": "index"}, "expected both --index and --queries"),
        ({"predictions": "perfect.csv", "with_map": True}, "--map needs descriptors"),
    ],
)
def test_too_little_is_refused(files, tmp_path, given, message):
    paths = {name: files.get(value, value) if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(DataError, match=message):
        report_files(tmp_path / "r.html", files["data"], **paths)
    assert not list(tmp_path.iterdir())


def test_predictions_of_another_index_are_refused():
    with pytest.raises(DataError, match="query 'q' has the hit 'x', which is not in the index"):
        predicted_ranking({"q": ("a", "x")}, ("a", "b"))


def test_without_open_tsne_a_map_that_is_asked_for_is_an_error_before_the_work(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(ModuleNotFoundError):
        report_files(tmp_path / "r.html", files["data"], index=files["index"], queries=files["test"], with_map=True)
    assert not (tmp_path / "r.html").exists()


def test_why_there_is_no_map(files, monkeypatch):
    dataset = Gldv2(files["data"])
    solution = read_retrieval_solution(dataset.solution_path)
    sides = Sides(Embeddings.load(files["index"]), Embeddings.load(files["test"]))
    ranking = search(sides.index, sides.queries)
    assert "add --map" in make_report("a", dataset, ranking, solution, sides).no_map
    monkeypatch.setattr("retrieval.viewer.make_report.FEWEST", 1000)
    assert "too few" in make_report("a", dataset, ranking, solution, sides, with_map=True).no_map
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    made = make_report("a", dataset, ranking, solution, sides, with_map=True)
    assert made.positions is None and "pip install 'landmark-zoo[map]'" in made.no_map


def test_the_configuration_is_what_the_descriptors_say():
    source = {
        "model": "a + b",
        "framework": "tensorflow",
        "size": 80,
        "checkpoint": f"{'1' * 64} + {'2' * 64}",
        "combined": {"scales": [1.0], "weights": [1.0, 0.8], "flip": True, "whitening_sha256": None},
    }
    assert configuration_of(source) == {
        "Model": "a + b",
        "Run by": "tensorflow",
        "Image size": "80 px",
        "Checkpoints": f"{'1' * 12} + {'2' * 12}",
        "Weights": "1, 0.8",
        "Scales": "1",
        "Mirrored too": "yes",
    }
    assert configuration_of({"combined": None}) == {}
