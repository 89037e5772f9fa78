"""State dicts of Paddle, pickles of arrays (`zoo.published.files.read_published`)."""

import pickle

from hypothesis import strategies as st

from tests.reliability import pickles
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.weights import read

_VALID = [pickle.dumps(pickles.VALID_ARRAYS, protocol) for protocol in (2, 3, 4, 5)]


@st.composite
def _array(draw: st.DrawFn) -> bytes:
    """An array that numpy's constructor makes, whose dtype, shape and bytes need not agree."""
    kind = draw(st.sampled_from(("f4", "f2", "f8", "u2", "i8", "b1", "c8", "O8", "V9", "S3", "f99", "", "f4,f4")))
    order = draw(st.sampled_from(("<", ">", "|", "=", "x")))
    dtype = pickles.called("numpy.dtype", pickles.text(kind), b"\x89", b"\x88")
    dtype += pickles.tupled(pickles.number(3), pickles.text(order), b"N", b"N", b"N", b"J\xff\xff\xff\xff" * 2) + b"b"
    shape = draw(st.one_of(st.lists(pickles.SIZES, max_size=3), st.just([1] * 1000)))
    made = pickles.called("numpy.core.multiarray._reconstruct", b"N", pickles.tupled(), b"C\x01b")
    data = b"C" + bytes([size := draw(st.integers(0, 40))]) + bytes(size)
    state = (
        pickles.number(1),
        pickles.tupled(*map(pickles.number, shape)),
        dtype,
        draw(st.sampled_from((b"\x88", b"\x89"))),
        data,
    )
    return made + pickles.tupled(*state) + b"b"


READER = Reader(
    "Paddle's weights (.pdparams)",
    st.one_of(
        st.sampled_from(_VALID).flatmap(damaged),
        st.sampled_from(pickles.HOSTILE).map(pickles.program),
        st.dictionaries(pickles.KEYS, _array(), min_size=1, max_size=3).map(pickles.mapping).map(pickles.program),
    ),
    read,
    place="weights.pdparams",
)
