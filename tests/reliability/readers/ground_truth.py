"""Ground truths of Revisited Oxford and Paris, as published and as JSON (`retrieval.revisited.ground_truth`)."""

import json
import pickle
from pathlib import Path

from hypothesis import strategies as st

from retrieval.revisited.ground_truth import FORMAT, read_ground_truth
from tests.reliability import pickles
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader

_QUERY = {"easy": [0], "hard": [1], "junk": []}
_PUBLISHED = {"gnd": [{"bbx": [1.0, 2.0, 3.5, 4.0]} | _QUERY], "imlist": ["a", "b"], "qimlist": ["q"]}
_NAMED = {"name": "q", "box": [1, 2, 3, 4], "easy": ["a"], "hard": ["b"], "junk": []}
_JSON = json.dumps({"format": FORMAT, "images": ["a", "b"], "queries": [_NAMED]}).encode()
_VALID = [_JSON, *(pickle.dumps(_PUBLISHED, protocol) for protocol in (2, 3, 4, 5))]


@st.composite
def _published(draw: st.DrawFn) -> bytes:
    """The published layout with positions, names and boxes that need not be any."""
    values = st.one_of(st.integers(-1, 3), st.sampled_from((True, None, 1.0, "a", 10**30, float("nan"))))
    names = st.lists(st.sampled_from(("a", "b", "a b", "", "\u20ac", 3)), max_size=4)
    query = {kind: draw(st.lists(values, max_size=3)) for kind in _QUERY} | {"bbx": draw(st.lists(values, max_size=5))}
    count = draw(st.integers(0, 3))
    return pickle.dumps({"gnd": [query] * count, "imlist": draw(names), "qimlist": draw(names)}, 3)


def _read(path: Path) -> None:
    truth = read_ground_truth(path)
    assert truth.queries
    for query in truth.queries:
        assert set(query.easy + query.hard + query.junk) <= set(truth.images)
        assert query.box[0] < query.box[2] and query.box[1] < query.box[3]


READER = Reader(
    "ground truths of Revisited Oxford and Paris",
    st.one_of(
        st.sampled_from(_VALID).flatmap(damaged),
        st.sampled_from(pickles.HOSTILE).map(pickles.program),
        _published(),
    ),
    _read,
    place="gnd.pkl",
)
