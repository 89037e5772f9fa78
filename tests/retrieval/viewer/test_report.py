"""The report: it parses, loads nothing, counts its marks correctly, escapes names, and refuses incomplete figures."""

import copy
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from retrieval.viewer.report import HITS_SHOWN, QUERIES_SHOWN, Hit, QueryRow, Report, write_report
from zoo.errors import DataError

FIGURES = {
    "map100": {"untrained": 0.11, "members": {"resnet18": 0.5, "resnest14": 0.7}, "ensemble": 0.8123},
    "parity": [
        {"arrow": "torch → ONNX", "model": "resnet18", "max_abs": 2e-7, "cosine": 1 - 1e-12, "tolerance": 1e-5},
        {"arrow": "ONNX → SavedModel", "model": "resnet18", "max_abs": 3e-5, "cosine": 0.999, "tolerance": 1e-5},
        {"arrow": "Paddle → ONNX", "model": "resnest14", "max_abs": 0.0, "cosine": 1.0, "tolerance": 1e-5},
    ],
    "seconds": {"train": 75.0, "export": 9.5},
    "peak_rss_mib": 512.0,
    "sizes": {"submission.zip": 3 << 20},
    "data": {"train": 2400, "classes": 80, "index": 1200, "queries": 120},
}
VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects the elements with their attributes, the text, and tags that are closed in the wrong order."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.elements, self.text, self.misnested = [], [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data):
        self.text += data

    def count(self, name: str) -> int:
        return sum(name in (attributes.get("class") or "").split() for _, attributes in self.elements)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    paths = []
    for number, shape in enumerate([(90, 140, 3), (300, 200, 3), (64, 64, 3), (700, 900, 3)]):
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(paths[-1])
    return paths


def query_row(photographs, number: int, precision: float, correct: list[bool]) -> QueryRow:
    hits = [Hit(photographs[rank % 4], f"i{number}-{rank}", 0.1 * rank, right) for rank, right in enumerate(correct)]
    return QueryRow(photographs[number % 4], f"q{number}", precision, hits)


def points(stages: int = 3, steps: int = 8) -> list[dict]:
    return [
        {
            "step": step,
            "stage": step * stages // steps,
            "resolution": 64 + 32 * (step * stages // steps),
            "margin": 0.1 * (step * stages // steps),
            "learning_rate": 0.1 / (1 + step),
            "loss": 5.0 - 0.3 * step,
            "accuracy": step / steps,
        }
        for step in range(steps)
    ]


def report(photographs, **changes) -> Report:
    rows = [query_row(photographs, 0, 0.9, [True, True, False]), query_row(photographs, 1, 0.2, [False, True])]
    parts = {"title": "Demo", "figures": FIGURES, "curves": {"resnet18": points()}, "queries": rows}
    return Report(**parts | changes)


def written(path, value: Report) -> tuple[str, Page]:
    write_report(path, value)
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_parses_and_loads_nothing(tmp_path, photographs):
    html, page = written(tmp_path / "report.html", report(photographs))
    assert html.lstrip().startswith("<!doctype html>")
    assert not page.misnested
    assert not page.open
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not {name for name in attributes if name.startswith("on")}
        for name in ("src", "href", "srcset", "data", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith(("data:image/jpeg;base64,", "#"))
    for outside in ("url(", "@import", "http:", "https:", "file:", str(tmp_path), str(photographs[0].parent)):
        assert outside not in html


def test_marks_equal_the_input(tmp_path, photographs):
    _, page = written(tmp_path / "report.html", report(photographs))
    assert (page.count("correct"), page.count("wrong")) == (3, 2)
    images = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 2 + 5
    assert images[3] == "Hit 3, wrong: i0-2, distance 0.200"
    assert all(images)


def test_shows_the_headline_the_stages_and_the_parity(tmp_path, photographs):
    _, page = written(tmp_path / "report.html", report(photographs))
    for part in (
        "0.8123",
        "0.6000",
        "0.1100",
        "64 px",
        "96 px",
        "128 px",
        "m 0.2",
        "1 min 15 s",
        "3.0 MiB",
        "make demo",
    ):
        assert part in page.text
    assert page.count("edge") == 3 * 2  # loss, accuracy, learning rate; three stages have two boundaries
    assert (page.count("failed"), page.count("pass"), page.count("fail")) == (1, 2, 1)
    assert "3.0 × 10⁻⁵" in page.text
    assert "50.0×" in page.text
    assert "exact" in page.text


@pytest.mark.parametrize("name", ["max_abs", "cosine"])
def test_nan_never_passes_parity(tmp_path, photographs, name):
    figures = copy.deepcopy(FIGURES)
    figures["parity"][0][name] = math.nan
    _, page = written(tmp_path / "report.html", report(photographs, figures=figures))
    assert (page.count("pass"), page.count("fail")) == (1, 2)


def test_chooses_best_median_and_worst_and_stays_small(tmp_path, photographs):
    rows = [query_row(photographs, number, number / 100, [number % 2 == 0] * 15) for number in range(101)]
    html, page = written(tmp_path / "report.html", report(photographs, queries=rows))
    shown = [attributes["alt"] for tag, attributes in page.elements if attributes.get("class") == "photograph"]
    assert len(shown) == QUERIES_SHOWN
    assert (shown[0], shown[-1]) == ("Query q100", "Query q0")
    assert "Query q50" in shown
    assert page.count("correct") + page.count("wrong") == QUERIES_SHOWN * HITS_SHOWN
    assert len(html.encode()) < 1_500_000  # noise, which compresses worse than photographs
    assert [page.text.count(tag) for tag in ("best\n", "median\n", "worst\n")] == [1, 1, 1]


def test_names_are_escaped(tmp_path, photographs):
    nasty = '"><script>alert(1)</script>&'
    figures = copy.deepcopy(FIGURES)
    figures["map100"]["members"] = {nasty: 0.5}
    figures["seconds"] = {nasty: 1.0}
    figures["sizes"] = {nasty: 1}
    figures["parity"][0] |= {"arrow": nasty, "model": nasty}
    rows = [QueryRow(photographs[0], nasty, 0.5, [Hit(photographs[1], nasty, 0.5, True)])]
    changes = {"title": nasty, "figures": figures, "curves": {nasty: points()}, "queries": rows}
    html, page = written(tmp_path / "report.html", report(photographs, **changes))
    assert "<script" not in html
    assert not page.misnested
    assert page.text.count(nasty) == 9  # title twice, member, step, size, arrow, model, curve, query
    assert sum(nasty in (attributes.get("alt") or "") for _, attributes in page.elements) == 2


@pytest.mark.parametrize("path", [("map100",), ("map100", "members"), ("parity",), ("seconds",), ("sizes",), ("data",)])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_table_is_an_error(tmp_path, photographs, path, empty):
    figures = copy.deepcopy(FIGURES)
    parent = figures if len(path) == 1 else figures[path[0]]
    if empty:
        parent[path[-1]] = type(parent[path[-1]])()
    else:
        del parent[path[-1]]
    with pytest.raises(DataError, match=f"{path[-1]}"):
        write_report(tmp_path / "report.html", report(photographs, figures=figures))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "key"), [("map100", "ensemble"), ("map100", "untrained"), ("data", "queries"), (None, "peak_rss_mib")]
)
@pytest.mark.parametrize("value", [None, math.nan, "0.5"])
def test_a_figure_that_is_no_number_is_an_error(tmp_path, photographs, table, key, value):
    figures = copy.deepcopy(FIGURES)
    (figures[table] if table else figures)[key] = value
    with pytest.raises(DataError, match=key):
        write_report(tmp_path / "report.html", report(photographs, figures=figures))


def test_incomplete_curves_parity_and_queries_are_errors(tmp_path, photographs):
    figures = copy.deepcopy(FIGURES)
    del figures["parity"][1]["cosine"]
    broken = points()
    broken[4]["loss"] = math.nan
    unreadable = tmp_path / "photograph.jpg"
    unreadable.write_bytes(b"not an image")
    for changes, message in [
        ({"figures": figures}, r"figures\['parity'\]\[1\] lacks 'cosine'"),
        ({"curves": {"m": []}}, r"curves\['m'\] is empty"),
        ({"curves": {"m": broken}}, r"curves\['m'\]\[4\]\['loss'\] is nan"),
        ({"queries": []}, "queries is empty"),
        ({"queries": [QueryRow(unreadable, "q", 0.5, [])]}, r"photograph\.jpg: not an image"),
        ({"queries": [QueryRow(tmp_path / "none.jpg", "q", 0.5, [])]}, r"none\.jpg: no such file"),
    ]:
        with pytest.raises(DataError, match=message):
            write_report(tmp_path / "report.html", report(photographs, **changes))
    assert not (tmp_path / "report.html").exists()


def test_one_point_and_a_model_without_curves_are_drawn(tmp_path, photographs):
    flat = points()[:1]
    flat[0] |= {"accuracy": 0.0, "learning_rate": 0.0}
    _, page = written(tmp_path / "report.html", report(photographs, curves={"m": flat}))
    assert sum(tag == "polyline" for tag, _ in page.elements) == 3
    _, page = written(tmp_path / "report.html", report(photographs, curves={}))
    assert not any(tag == "polyline" for tag, _ in page.elements)
