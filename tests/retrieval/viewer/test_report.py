"""The report's HTML as it is written: it parses, loads nothing, allows one script, escapes names, and refuses incomplete figures."""

import base64
import copy
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from retrieval.viewer.charts import POINTS, charts
from retrieval.viewer.figures import parity_rows, size_table
from retrieval.viewer.report import HARDEST, HARDEST_HITS, Other, Report, write_report
from tests.retrieval.viewer.small_reports import FIGURES, drawn_report, points, ranked, run
from zoo.errors import DataError

VOID = {"meta", "img", "link", "br", "hr", "input"}
NASTY = "</script><!-- \"'><img src=x onerror=alert(1)>&amp; 🏰 \u2028"


class Page(HTMLParser):
    """Collects the elements with their attributes, the text outside of scripts, and tags closed in the wrong order."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.elements, self.text, self.misnested, self.inside = [], [], "", [], {}
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
        if self.open[-1:] and self.open[-1] in ("script", "style"):
            kind = self.elements[-1][1].get("type", self.open[-1])
            self.inside[kind] = self.inside.get(kind, "") + data
        else:
            self.text += data

    def count(self, name: str) -> int:
        return sum(name in (attributes.get("class") or "").split() for _, attributes in self.elements)


@pytest.fixture(scope="module")
def found():
    return ranked()


def written(path, report: Report) -> tuple[str, Page]:
    write_report(path, report)
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def data_of(page: Page) -> dict:
    return json.loads(page.inside["application/json"])


def array(packed: dict) -> np.ndarray:
    kinds = {"Int32Array": "<i4", "Uint32Array": "<u4", "Uint16Array": "<u2", "Uint8Array": "u1", "Float32Array": "<f4"}
    return np.frombuffer(base64.b64decode(packed["data"]), kinds[packed["kind"]])


def test_parses_and_loads_nothing(tmp_path, found):
    html, page = written(tmp_path / "report.html", drawn_report(found, run=run()))
    assert html.lstrip().startswith("<!doctype html>")
    assert not page.misnested and not page.open
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "base", "embed"}
        assert not {name for name in attributes if name.startswith("on") or name == "style"}
        for name in ("src", "href", "srcset", "data", "xlink:href", "action"):
            assert attributes.get(name, "#").startswith(("data:image/webp;base64,", "#"))
    for outside in ("url(", "@import", "http:", "https:", "file:", "fetch(", "XMLHttpRequest", "innerHTML", "eval("):
        assert outside not in html, outside
    assert str(tmp_path) not in html


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(tmp_path, found):
    _, page = written(tmp_path / "report.html", drawn_report(found))
    [policy] = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    for kind in ("script", "style"):
        digest = hashlib.sha256(page.inside[kind].encode()).digest()
        assert rules[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == [None, "application/json", "text/plain"]


def test_the_data_are_the_results(tmp_path, found):
    report = drawn_report(found, other=Other("other.csv", found.precisions / 2))
    _, page = written(tmp_path / "report.html", report)
    data = data_of(page)
    arrays = {name: array(packed) for name, packed in data["arrays"].items()}
    assert data["queries"] == list(found.query_ids) and data["images"] == list(found.image_ids)
    assert data["landmarks"] == list(found.landmarks) and data["pictured"] == len(found.image_ids)
    for name, expected in {
        "hits": found.hits,
        "correct": found.correct,
        "cosines": found.cosines,
        "distances": found.distances,
        "precisions": found.precisions.astype(np.float32),
        "otherPrecisions": (found.precisions / 2).astype(np.float32),
        "found": found.found,
        "relevant": found.relevant,
        "queryLandmarks": found.query_landmarks,
        "imageLandmarks": found.image_landmarks,
    }.items():
        np.testing.assert_array_equal(arrays[name], expected.ravel(), err_msg=name)
    parts = np.split(arrays["missed"], arrays["missedEnds"][:-1])
    assert [part.tolist() for part in parts] == [list(missed) for missed in found.missed]
    assert page.inside["text/plain"] == report.pictures.text


def test_the_head_says_what_was_scored(tmp_path, found):
    _, page = written(tmp_path / "report.html", drawn_report(found, configuration={"Model": "resnet50"}))
    words = " ".join(page.text.split())
    assert "30 queries were scored, each against 68 index images; 1 further test images are Ignored" in words
    assert f"{found.precisions.mean():.4f}" in words
    assert f"{100 * (found.first == 1).mean():.1f} %" in words
    assert f"{found.found.sum()} of {found.relevant.sum()}" in words
    assert "resnet50" in words


def test_the_plain_list_has_the_hardest_queries(tmp_path, found):
    _, page = written(tmp_path / "report.html", drawn_report(found))
    hardest = np.sort(found.precisions)[:HARDEST]
    listed = [float(value) for value in re.findall(r"AP ([0-9.]+) ·", page.text)]
    np.testing.assert_allclose(listed, hardest, atol=6e-4)
    order = np.argsort(found.precisions, kind="stable")[:HARDEST]
    right = int(found.correct[order, :HARDEST_HITS].sum())
    assert (page.count("correct"), page.count("wrong")) == (right, HARDEST * HARDEST_HITS - right)
    assert all(attributes["alt"] for tag, attributes in page.elements if tag == "img")


def test_a_comparison_of_two_rankings(tmp_path, found):
    worse = found.precisions.copy()
    worse[:10] = 0
    _, page = written(tmp_path / "report.html", drawn_report(found, other=Other("other.csv", worse)))
    words = " ".join(page.text.split())
    assert "Compared with other.csv" in words and f"+{(found.precisions - worse).mean():.4f} (95 % interval" in words
    assert "Better here10" in words.replace(" 10", "10") and "Equal20" in words.replace(" 20", "20")
    assert ": shown on 30 queries" in words
    _, page = written(tmp_path / "report.html", drawn_report(found, other=Other("other.csv", found.precisions)))
    assert ": not shown on 30 queries" in " ".join(page.text.split())


def test_the_run_of_a_pipeline(tmp_path, found):
    figures = copy.deepcopy(FIGURES)
    figures["map100"]["comparison"] = {
        "against": "resnest14",
        "difference": -0.0235,
        "interval": [-0.06, 0.013],
        "p": 0.22,
        "queries": 72,
    }
    _, page = written(tmp_path / "report.html", drawn_report(found, run=run(figures=figures)))
    words = " ".join(page.text.split())
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
        assert part in words, part
    assert (
        "Ensemble minus resnest14: −0.0235 (95 % interval −0.0600 to +0.0130), p = .22: not shown on 72 queries."
        in words
    )
    assert (page.count("failed"), page.count("pass"), page.count("fail")) == (1, 2, 1)
    assert "3.0 × 10⁻⁵" in words and "50.0×" in words and "exact" in words


def test_without_a_map_the_page_says_how_to_get_one(tmp_path, found):
    _, page = written(tmp_path / "report.html", drawn_report(found, no_map="There is no map: install it."))
    assert "There is no map: install it." in page.text
    assert "canvas" not in {tag for tag, _ in page.elements}


def test_parity_begins_with_the_worst_and_nan_never_passes():
    rows = [
        {"arrow": "a", "model": "m", "max_abs": 1e-6, "cosine": 1.0, "tolerance": 1e-5},
        {"arrow": "b", "model": "m", "max_abs": 9e-6, "cosine": 1.0, "tolerance": 1e-5},
        {"arrow": "c", "model": "m", "max_abs": math.nan, "cosine": 1.0, "tolerance": 1e-5},
        {"arrow": "d", "model": "m", "max_abs": 0.0, "cosine": math.nan, "tolerance": 1e-5},
        {"arrow": "e", "model": "m", "max_abs": 2e-5, "cosine": 1.0, "tolerance": 1e-5},
    ]
    assert [(row["arrow"], row["passed"]) for row in parity_rows(rows)] == [
        ("c", False),
        ("d", False),
        ("e", False),
        ("b", True),
        ("a", True),
    ]


def test_sizes_are_a_table_of_models():
    kinds, rows = size_table({"checkpoint a": 1, "checkpoint b": 2, "SavedModel a": 3, "submission.zip": 4})
    assert kinds == ["checkpoint", "SavedModel"]
    assert rows == [("a", [1, 3]), ("b", [2, None]), ("submission.zip", [4])]


def test_models_share_charts_and_a_common_learning_rate_is_drawn_once():
    other = [point | {"loss": 2 * point["loss"]} for point in points()]
    loss, accuracy, rate = charts({"a": points(), "b": other})
    assert [line.name for line in loss.lines] == ["a", "b"] == [line.name for line in accuracy.lines]
    assert [line.name for line in rate.lines] == ["all models"]
    assert len(loss.stages) == 3 and [tick for _, tick in loss.y_ticks] == ["0", "5", "10"]
    faster = [point | {"learning_rate": 2 * point["learning_rate"]} for point in points()]
    assert len(charts({"a": points(), "b": faster})[2].lines) == 2
    assert charts({}) == []


def test_a_long_training_is_drawn_as_means():
    [loss, *_] = charts({"a": points(2, 50 * POINTS)})
    assert POINTS <= len(loss.lines[0].points.split()) <= POINTS + 2
    assert (loss.first_step, loss.last_step) == (0, 50 * POINTS - 1)
    [one, *_] = charts({"a": points()[:1]})
    assert one.lines[0].points


def test_names_are_escaped(tmp_path, found):
    nasty = drawn_report(found)
    for names in (nasty.results.query_ids, nasty.results.image_ids, nasty.results.landmarks):
        assert isinstance(names, list)
    changed = copy.deepcopy(nasty.results)
    changed.query_ids[:] = [f"{NASTY}{name}" for name in found.query_ids]
    changed.image_ids[:] = [f"{NASTY}{name}" for name in found.image_ids]
    changed.landmarks[:] = [NASTY for _ in found.landmarks]
    figures = copy.deepcopy(FIGURES)
    figures["map100"]["members"] = {NASTY: 0.5}
    figures["seconds"] = figures["sizes"] = {NASTY: 1}
    figures["parity"][0] |= {"arrow": NASTY, "model": NASTY}
    report = drawn_report(
        found,
        title=NASTY,
        results=changed,
        pictures=nasty.pictures,
        configuration={NASTY: NASTY},
        other=Other(NASTY, found.precisions),
        run=run(figures=figures, curves={NASTY: points()}),
    )
    html, page = written(tmp_path / "report.html", report)
    assert not page.misnested and not page.open
    assert html.count("<script") == html.count("</script") == 3 and "<img src=x" not in html
    assert data_of(page)["landmarks"][0] == NASTY and data_of(page)["queries"] == list(changed.query_ids)
    assert page.text.count(NASTY) > 20


@pytest.mark.parametrize("path", [("map100",), ("map100", "members"), ("parity",), ("seconds",), ("sizes",), ("data",)])
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_table_is_an_error(tmp_path, found, path, empty):
    figures = copy.deepcopy(FIGURES)
    parent = figures if len(path) == 1 else figures[path[0]]
    if empty:
        parent[path[-1]] = type(parent[path[-1]])()
    else:
        del parent[path[-1]]
    with pytest.raises(DataError, match=f"{path[-1]}"):
        write_report(tmp_path / "report.html", drawn_report(found, run=run(figures=figures)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "key"), [("map100", "ensemble"), ("map100", "untrained"), ("data", "queries"), (None, "peak_rss_mib")]
)
@pytest.mark.parametrize("value", [None, math.nan, "0.5"])
def test_a_figure_that_is_no_number_is_an_error(tmp_path, found, table, key, value):
    figures = copy.deepcopy(FIGURES)
    (figures[table] if table else figures)[key] = value
    with pytest.raises(DataError, match=key):
        write_report(tmp_path / "report.html", drawn_report(found, run=run(figures=figures)))


def test_incomplete_curves_and_parity_and_parts_of_another_ranking_are_errors(tmp_path, found):
    figures = copy.deepcopy(FIGURES)
    del figures["parity"][1]["cosine"]
    broken = points()
    broken[4]["loss"] = math.nan
    for changes, message in [
        ({"run": run(figures=figures)}, r"figures\['parity'\]\[1\] lacks 'cosine'"),
        ({"run": run(curves={"m": []})}, r"curves\['m'\] is empty"),
        ({"run": run(curves={"m": broken})}, r"curves\['m'\]\[4\]\['loss'\] is nan"),
        ({"other": Other("a", found.precisions[1:])}, "expected 30 precisions of the other ranking, found 29"),
        ({"positions": np.zeros((3, 2), np.uint16)}, "positions on the map, found 3"),
    ]:
        with pytest.raises(DataError, match=message):
            write_report(tmp_path / "report.html", drawn_report(found, **changes))
    assert not (tmp_path / "report.html").exists()


def test_images_that_cannot_be_read_are_said(tmp_path, found):
    changed = copy.deepcopy(found)
    changed.image_ids[:2] = ["broken 1", "broken 2"]
    _, page = written(tmp_path / "report.html", drawn_report(changed))
    assert "2 images could not be read" in " ".join(page.text.split())
