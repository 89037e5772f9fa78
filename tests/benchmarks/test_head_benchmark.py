"""The measured exchange of the class-divided head is what it should be, on one process and on two."""

import dataclasses

import pytest

from benchmarks.head import Job, measure, table

SMALL = Job("torch", 2, classes=301, embedding=16, batch=8)


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize("negatives", [None, 0.1])
def test_two_processes_exchange_what_the_formula_says(framework, negatives):
    job = dataclasses.replace(SMALL, framework=framework, negatives=negatives)
    row = measure(job)
    assert row["exchanged_bytes"] == job.exchanged == 8 * (8 + 128 + 20) + 8
    assert 0 < row["before_mib"] <= row["peak_mib"]
    assert len(row["losses"]) == job.steps
    assert "| 2 |" in table([row])


def test_the_exchange_does_not_grow_with_classes_or_processes():
    more = dataclasses.replace(SMALL, processes=4, classes=203_094)
    assert more.exchanged == SMALL.exchanged
    assert more.undivided == 4 * 203_094 * 16
    alone = dataclasses.replace(SMALL, processes=1)
    assert (alone.exchanged, alone.undivided) == (0, 0)
