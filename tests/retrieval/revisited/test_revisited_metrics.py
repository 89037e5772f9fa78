"""Revisited Oxford's and Paris's metrics, compared with a slow implementation that follows the protocol literally."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.ranking import Ranking
from retrieval.revisited.metrics import average_precision, precision_at, ranks_of
from retrieval.revisited.scoring import score_ranking

RIGHT = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}


def by_hand(order: list[int], lists: dict[str, list[int]], protocol: str) -> tuple[float, dict[int, float]] | None:
    """AP and mP@1, 5, 10 of one query: the junk is deleted from the list, and precisions are counted along what is left."""
    right = {image for kind in RIGHT[protocol] for image in lists[kind]}
    junk = {image for kind in lists for image in lists[kind]} - right
    if not right:
        return None
    left = [image in right for image in order if image not in junk]
    area, last = 0.0, 1.0
    for rank, is_right in enumerate(left, start=1):
        now = sum(left[:rank]) / rank
        before = sum(left[: rank - 1]) / (rank - 1) if rank > 1 else last
        area += is_right * (before + now) / 2
    end = max(rank for rank, is_right in enumerate(left, start=1) if is_right)
    return area / len(right), {k: sum(left[: min(k, end)]) / min(k, end) for k in (1, 5, 10)}


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[int]], list[dict[str, list[int]]]]:
    """Whole rankings of up to 30 images, each of which is easy, hard, junk or wrong."""
    count, queries = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    orders = [draw(st.permutations(range(count))) for _ in range(queries)]
    kinds = st.sampled_from(("easy", "hard", "junk", "wrong", "wrong"))
    given_kinds = [draw(st.lists(kinds, min_size=count, max_size=count)) for _ in range(queries)]
    return orders, [
        {kind: [image for image, own in enumerate(row) if own == kind] for kind in ("easy", "hard", "junk")}
        for row in given_kinds
    ]


def figures_of(orders: list[list[int]], lists: list[dict[str, list[int]]]) -> dict:
    rows = np.array(orders, np.int32)
    ids = [str(number) for number in range(rows.shape[1])]
    return score_ranking(
        Ranking([f"q{n}" for n in range(len(rows))], ids, rows, np.zeros(rows.shape, np.float32)), lists
    )


@settings(max_examples=150, deadline=None)
@given(rankings())
def test_against_the_protocol_by_hand(case):
    orders, lists = case
    found = figures_of(orders, lists)
    for protocol, figures in found.items():
        expected = [e for o, own in zip(orders, lists, strict=True) if (e := by_hand(o, own, protocol))]
        assert figures["queries"] == len(expected)
        if not expected:
            assert figures["map"] is figures["precision_5"] is None
            continue
        assert figures["map"] == pytest.approx(np.mean([ap for ap, _ in expected]), abs=1e-12)
        for k in (1, 5, 10):
            assert figures[f"precision_{k}"] == pytest.approx(np.mean([own[k] for _, own in expected]), abs=1e-12)


def test_the_trapezoid_is_not_the_contests_rectangle():
    # Right at the second of two ranks: the precision rises from 0 to 1/2, so the trapezoid is 1/4 where the contest counts 1/2.
    assert average_precision(np.array([1])) == 0.25
    assert average_precision(np.array([0, 1, 2])) == 1
    assert average_precision(np.array([0, 2])) == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_junk_is_removed_before_ranks_are_counted():
    positions = np.arange(6)  # ranked in their order
    assert ranks_of(positions, np.array([1, 4]), np.array([0, 3, 5])).tolist() == [0, 2]
    assert ranks_of(positions, np.array([4, 1]), np.array([], np.int64)).tolist() == [1, 4]


def test_easy_images_are_junk_of_the_hard_protocol_and_the_other_way_round():
    found = figures_of([[0, 1, 2, 3]], [{"easy": [0], "hard": [1], "junk": []}])
    assert found["easy"]["map"] == found["hard"]["map"] == found["medium"]["map"] == 1
    found = figures_of([[3, 1, 0, 2]], [{"easy": [0], "hard": [1], "junk": []}])
    assert found["easy"]["map"] == found["hard"]["map"] == 0.25


def test_few_positives_can_have_full_precision():
    assert precision_at(np.array([0, 1]), 10) == 1
    assert precision_at(np.array([0, 3]), 10) == 0.5
    assert precision_at(np.array([2, 3]), 1) == 0
