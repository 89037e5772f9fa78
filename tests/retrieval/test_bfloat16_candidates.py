"""Scores from bfloat16 products are never too small either, and where they do not pay they are not used."""

import sys

import numpy as np
import pytest

from retrieval import devices, exact
from retrieval.bounds import distances_to, least_score, query_columns
from retrieval.devices import choose_device
from retrieval.embeddings import squared_norms
from retrieval.search import search
from retrieval.store import Selection
from tests.retrieval.test_bounds import descriptors
from zoo.errors import SpecError

bfloat16 = pytest.importorskip("retrieval.bfloat16_candidates")


@pytest.mark.parametrize("kind", ["unit", "positive", "close", "coarse", "long"])
@pytest.mark.parametrize("dimensions", [1, 7, 512])
def test_a_score_is_never_too_small(kind, dimensions):
    made = [descriptors("unit" if kind in ("coarse", "long") else kind, n, dimensions, n) for n in (200, 50)]
    if kind == "coarse":  # bfloat16 has every entry exactly, so that nothing is lost but in the columns
        made = [np.round(rows * 8) / 8 + np.float32(1) for rows in made]
    if kind == "long":
        made = [rows * (np.arange(len(rows), dtype=np.float32)[:, None] + 1) for rows in made]
    rows, queries = made
    norms = np.sqrt(squared_norms(queries))
    candidates = bfloat16.Bfloat16Candidates(np.hstack([queries, query_columns(norms, dimensions)]), norms, len(rows))
    for start in range(0, len(rows), 90):
        part = slice(start, start + 90)
        candidates.add(rows[part], squared_norms(rows[part]), start)
    numbers, worst = candidates.best()
    for query, descriptor in enumerate(queries.astype(np.float64)):
        distances = distances_to(descriptor, rows)
        assert sorted(numbers[query]) == list(range(len(rows)))
        assert worst[query] >= least_score(distances, np.full(len(rows), norms[query]), dimensions).min()
        scores = candidates._heap.D[query].astype(np.float64)
        above = scores + 2.0**-8 * np.abs(scores) + 2.0**-44
        assert (above >= least_score(distances[numbers[query]], norms[query], dimensions)).all()


@pytest.fixture
def selected_again(monkeypatch) -> list[int]:
    """How many queries were selected in float32, although bfloat16 was asked for."""
    made: list[int] = []
    heap = exact.HeapCandidates
    monkeypatch.setattr(exact, "WORTHWHILE", 0)
    monkeypatch.setattr(
        exact, "HeapCandidates", lambda queries, *given: made.append(len(queries)) or heap(queries, *given)
    )
    return made


def stored(kind: str, n: int) -> Selection:
    rows = descriptors(kind, n, 64, n)
    return Selection([str(row) for row in range(n)], rows, squared_norms(rows), {})


def test_the_bound_certifies_nearly_all_queries(selected_again):
    """Too large a bound would be right as well, but would make bfloat16 useless."""
    search(stored("unit", 5000), stored("unit", 100), 100, device="bfloat16")
    assert sum(selected_again) < 10


def test_what_bfloat16_does_not_certify_is_selected_in_float32(selected_again):
    """Descriptors that bfloat16 cannot tell apart, and float32 can."""
    index = stored("close", 600)
    found = search(index, index, 50, device="bfloat16")
    assert selected_again == [600]
    expected = search(index, index, 50)
    assert (found.rows == expected.rows).all() and (found.distances == expected.distances).all()


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_other_lengths_are_multiplied_in_float32(monkeypatch, scale):
    monkeypatch.setattr(exact, "WORTHWHILE", 0)
    monkeypatch.setattr(bfloat16, "Bfloat16Candidates", None)
    rows = descriptors("unit", 300, 16, 0) * np.float32(scale)
    index = Selection([str(row) for row in range(300)], rows, squared_norms(rows), {})
    assert (search(index, index, 1, device="bfloat16").rows[:, 0] == np.arange(300)).all()


def test_a_small_search_needs_no_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "retrieval.bfloat16_candidates", None)  # importing it would fail
    rows = descriptors("unit", 300, 16, 0)
    index = Selection([str(row) for row in range(300)], rows, squared_norms(rows), {})
    assert (search(index, index, 1, device="bfloat16").rows[:, 0] == np.arange(300)).all()


@pytest.mark.parametrize(
    ("flags", "chosen"), [("flags : fpu amx_bf16 sse", "bfloat16"), ("flags : fpu amx_bf16x", "cpu")]
)
def test_the_processor_decides(monkeypatch, tmp_path, flags, chosen):
    (tmp_path / "cpuinfo").write_text(flags, encoding="utf-8")
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(devices, "_DRIVERS", ())
    assert choose_device("auto") == chosen and choose_device("cpu") == "cpu"
    if chosen == "cpu":
        with pytest.raises(SpecError, match="no amx_bf16"):
            choose_device("bfloat16")
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "gone")
    assert choose_device("auto") == "cpu"


def test_a_gpu_that_is_not_there(monkeypatch):
    from retrieval import torch_candidates

    monkeypatch.setattr(torch_candidates, "count_gpus", lambda: 1)
    assert choose_device("cuda") == "cuda" and choose_device("cuda:0") == "cuda:0"
    with pytest.raises(SpecError, match="--device cuda:1: there is no such GPU; PyTorch sees 1"):
        choose_device("cuda:1")
    monkeypatch.setattr(devices, "_DRIVERS", ("/dev/null",))
    assert choose_device("auto") == "cuda"
