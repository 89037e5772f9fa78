"""Every reader, tried on drawn inputs in a process of its own: it returns or raises a `ZooError`, within its limits."""

from collections.abc import Iterator

import pytest
from hypothesis import given

from tests.reliability.fuzz import corpus, drawing
from tests.reliability.reader import Files, load, names
from tests.reliability.sandbox import Sandbox


@pytest.fixture(scope="module", params=names())
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(request.param) as running:
        yield running


def test_inputs_that_were_at_fault_once(sandbox):
    for name, files in corpus(sandbox.name):
        outcome = sandbox.read(files)
        assert outcome.kind != "fault", f"{name}: {outcome.text}"


def test_drawn_inputs(sandbox, request):
    examples = request.config.getoption("--fuzz-examples")

    @drawing(examples)
    @given(load(sandbox.name).files)
    def try_one(files: Files) -> None:
        outcome = sandbox.read(files)
        assert outcome.kind != "fault", outcome.text

    try_one()
