"""Every reader, tried on drawn inputs in a process of its own: it returns or raises a `ZooError`, within its limits."""

from collections.abc import Iterator

import pytest
from hypothesis import given

from tests.reliability.fuzz import corpus, drawing
from tests.reliability.make_corpus import LARGEST, specimens
from tests.reliability.reader import Files, load, names
from tests.reliability.sandbox import Sandbox


@pytest.fixture(scope="module", params=names())
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(request.param) as running:
        yield running


def test_the_corpus_is_refused_but_for_what_is_sound(sandbox):
    tried, messages = dict(corpus(sandbox.name)), load(sandbox.name).messages
    assert tried, f"{sandbox.name} has no specimens"
    for name, files in tried.items():
        outcome = sandbox.read(files)
        expected = "accepted" if name.startswith("sound") else "refused"
        assert outcome.kind == expected, f"{name}: {outcome.kind}: {outcome.text}"
        assert messages.get(name, "") in outcome.text, name
    assert not messages or set(messages) == {name for name in tried if not name.startswith("sound")}
    assert sum(map(_size, tried.values())) < 400_000


def _size(files: Files) -> int:
    return len(files) if isinstance(files, bytes) else sum(map(len, files.values()))


def test_the_corpus_has_what_its_script_makes():
    for reader, made in specimens().items():
        assert set(made) == {name for name, _ in corpus(reader)}
        assert all(_size(files) <= LARGEST for files in made.values())


def test_drawn_inputs(sandbox, request):
    examples = request.config.getoption("--fuzz-examples")

    @drawing(examples)
    @given(load(sandbox.name).files)
    def try_one(files: Files) -> None:
        outcome = sandbox.read(files)
        assert outcome.kind != "fault", outcome.text

    try_one()
