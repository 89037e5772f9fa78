"""State dicts of PyTorch, in both of its formats (`zoo.published.files.read_published`)."""

import io
import struct
import zipfile

from hypothesis import strategies as st

from tests.reliability import pickles
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader
from tests.reliability.weights import read
from zoo.published.torch_files import LEGACY_MAGIC

_FLOATS = struct.pack("<6f", *range(6))


def _zip(program: bytes, data: bytes = _FLOATS, entry: str = "0", method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/byteorder", "little")
        archive.writestr(f"a/data/{entry}", data)
    return buffer.getvalue()


def _legacy(program: bytes) -> bytes:
    head = b"".join(map(pickles.program, (pickles.number(LEGACY_MAGIC), pickles.number(1001), pickles.EMPTY_DICT)))
    keys = pickles.program(b"]" + pickles.text("0") + b"a")
    return head + program + keys + struct.pack("<q", 6) + _FLOATS


@st.composite
def _tensor(draw: st.DrawFn, legacy: bool) -> bytes:
    """A tensor whose storage, offset, shape and strides need not agree, made by a known or an unknown constructor."""
    kind = draw(st.sampled_from(("Float", "Half", "Double", "BFloat16", "Long", "ComplexFloat", "QInt8", "Untyped")))
    count = draw(st.one_of(st.just(6), pickles.SIZES))
    fields = [pickles.text("storage"), pickles.function(f"torch.{kind}Storage"), pickles.text("0"), pickles.text("cpu")]
    fields += [pickles.number(count)] + [b"N"] * legacy
    storage = pickles.tupled(*fields) + b"Q"
    size = draw(st.one_of(st.just([2, 3]), st.lists(pickles.SIZES, max_size=4), st.just([1] * 1000)))
    stride = draw(st.one_of(st.just([3, 1]), st.lists(pickles.SIZES, min_size=len(size), max_size=len(size))))
    numbers = [pickles.tupled(*map(pickles.number, values)) for values in (size, stride)]
    arguments = [storage, pickles.number(draw(st.one_of(st.just(0), pickles.SIZES))), *numbers, b"\x89", b"N"]
    name = draw(st.sampled_from(("_rebuild_tensor_v2", "_rebuild_tensor_v2", "_rebuild_qtensor", "_rebuild_tensor_v3")))
    made = pickles.called(f"torch._utils.{name}", *arguments)
    if draw(st.booleans()):
        made = pickles.called("torch._utils._rebuild_parameter", made, b"\x88", b"N")
    return made


def _states(legacy: bool) -> st.SearchStrategy[bytes]:
    tensors = st.dictionaries(pickles.KEYS, _tensor(legacy), min_size=1, max_size=3)
    return tensors.map(pickles.mapping).map(pickles.program)


_VALID = pickles.program(
    pickles.mapping(
        {
            "layer1.0.bn1.running_var": pickles.called(
                "torch._utils._rebuild_tensor_v2",
                pickles.tupled(
                    *(
                        pickles.text("storage"),
                        pickles.function("torch.FloatStorage"),
                        pickles.text("0"),
                        pickles.text("cpu"),
                    ),
                    pickles.number(6),
                )
                + b"Q",
                *(
                    pickles.number(0),
                    pickles.tupled(pickles.number(6)),
                    pickles.tupled(pickles.number(1)),
                    b"\x89",
                    b"N",
                ),
            )
        }
    )
)
_HOSTILE = st.sampled_from(pickles.HOSTILE).map(pickles.program)
READER = Reader(
    "PyTorch's weights (.pth)",
    st.one_of(
        damaged(_zip(_VALID)),
        damaged(_legacy(_VALID)),
        _HOSTILE.map(_zip),
        _HOSTILE.map(_legacy),
        _states(False).map(_zip),
        _states(True).map(_legacy),
        st.builds(
            _zip,
            st.just(_VALID),
            st.sampled_from((b"", bytes(5), bytes(50_000_000))),
            st.sampled_from(("0", "../0")),
            st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)),
        ),
    ),
    read,
    place="weights.pth",
)
