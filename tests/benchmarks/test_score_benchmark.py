"""The scoring benchmark on a small case: all contenders agree, and the table says whether the targets are met."""

import pytest

from benchmarks import score
from docs.generate import scores_table


@pytest.fixture(scope="module")
def results() -> dict:
    return score.measure(score.make_case(300, 2000), 1)


def test_all_contenders_agree_on_a_score_that_is_neither_0_nor_1(results):
    assert 0.1 < results["map100"] < 0.9
    assert list(results["seconds"]) == [score.LISTS, score.SETS, score.IDS, score.ONCE, score.ROWS]


def test_contenders_that_disagree_are_no_result(monkeypatch):
    monkeypatch.setattr(score.delf, "mean_average_precision", lambda *_: 0.5)
    with pytest.raises(AssertionError, match="do not agree"):
        score.measure(score.make_case(20, 100), 1)


@pytest.mark.parametrize(("rows", "lists", "word"), [(0.4, 7, "met"), (0.6, 12, "missed"), (0.4, 5, "missed")])
def test_both_targets_count(results, rows, lists, word):
    seconds = results["seconds"] | {score.ROWS: rows, score.LISTS: lists}
    [line] = [
        line
        for line in score.table(results | {"queries": 100_000, "seconds": seconds}).splitlines()
        if score.ROWS in line
    ]
    assert word in line


def test_the_page_says_when_an_ensembles_gain_is_not_shown():
    scores = {"untrained": 0.1, "members": {"a": 0.5}, "ensemble": 0.52}
    comparison = {"against": "a", "difference": 0.02, "interval": [-0.01, 0.06], "p": 0.22, "queries": 72}
    table = scores_table({"demo": {"map100": scores | {"comparison": comparison}}, "old": {"map100": scores}})
    assert "| ensemble minus its best member | +0.0200 [-0.01, +0.06], p = .22: not shown | – |" in table
