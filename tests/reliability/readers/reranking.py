"""Files of a re-ranking (`retrieval.rerank.read_reranking`)."""

import json
from pathlib import Path

from hypothesis import strategies as st

from retrieval.rerank import FORMAT, NONE, Reranking, read_reranking
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader

_VALUES = {
    "format": FORMAT,
    "augment_database": {"neighbours": 3, "alpha": 3.0},
    "expand_queries": None,
    "k_reciprocal": {"k1": 20, "k2": 6, "distance_weight": 0.3},
    "source": {"model": "m", "size": 224},
    "tuning": {"map100": 0.5, "tried": []},
}
_VALID = json.dumps(_VALUES).encode()
_OTHERS = st.sampled_from(
    (None, 0, -1, 1, 10**30, 1.5, "", "x", [], {}, [{}], True, float("nan"), float("inf"), "\ud800")
)


@st.composite
def _edited(draw: st.DrawFn) -> bytes:
    """A file in which one value is another one, or a key is added."""
    values = json.loads(_VALID)
    place = (
        values[draw(st.sampled_from(("augment_database", "k_reciprocal", "source")))] if draw(st.booleans()) else values
    )
    place[draw(st.sampled_from((*place, "unknown")))] = draw(_OTHERS)
    return json.dumps(values).encode()


def _read(path: Path) -> None:
    found = read_reranking(path)
    assert isinstance(found, Reranking) and str(found)
    assert isinstance(found.source, dict) and isinstance(found.tuning, dict)
    for expansion in (found.augment_database, found.expand_queries):
        assert expansion is None or (0 < expansion.neighbours <= 1000 and 0 <= expansion.alpha <= 100)
    reciprocal = found.k_reciprocal
    assert reciprocal is None or (0 < reciprocal.k2 <= reciprocal.k1 <= 200 and 0 <= reciprocal.distance_weight <= 1)
    assert found.parts().keys() == NONE.parts().keys()


READER = Reader("re-ranking", st.one_of(damaged(_VALID), _edited(), st.binary(max_size=20)), _read)
