"""The benchmark of the report writes pages of the size that it says, and judges them by the targets."""

import pytest

from benchmarks import report


@pytest.fixture(scope="module")
def photographs() -> report.Photographs:
    return report.draw(2)


def test_a_case_has_all_its_figures(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "has_browser", lambda: False)
    found = report.measure(20, 60, photographs, tmp_path, openings=1)
    assert (found["queries"], found["images"]) == (20, 60)
    assert found["megabytes"] == (tmp_path / "20.html").stat().st_size / 1e6 > 0
    assert min(found["seconds"].values()) > 0 and found["browser"] is None


def test_the_browser_opens_the_page(photographs, tmp_path):
    if not report.has_browser():
        pytest.skip("needs Chromium and its driver")
    found = report.measure(20, 60, photographs, tmp_path, openings=1)["browser"]
    assert found["ready"] > 0 and 2 <= found["rows"] < 20
    assert found["images"] >= 10 * found["rows"] and found["all_images"] > found["images"]


def test_the_made_up_ranking_finds_some_and_misses_some():
    made = report.make_results(200, 1000)
    assert 0.2 < made.precisions.mean() < 0.8 and (made.found < made.relevant).any() and made.correct.any()


def test_the_table_says_which_targets_are_met():
    case = {
        "queries": 5000,
        "images": 20000,
        "side": 64,
        "megabytes": 33.25,
        "seconds": {"pictures": 60.4, "page": 1.25},
        "browser": {"ready": 1.5, "rows": 5, "images": 99, "all_images": 171},
    }
    lines = report.table({"cases": [case], "map": {"points": 8000, "seconds": 21.6}}).splitlines()
    assert lines[2] == "| 5,000 | 20,000 | 64 | 33.2 | 60 | 1.2 | 1.50 | 5 | 99 |"
    assert lines[-1] == (
        "Targets: 33.2 MB of at most 40: met; ready in 1.50 s of less than 1: **missed**. A map of 8,000 descriptors takes 22 s."
    )
