"""Strategies of pickles, opcode by opcode: what a framework writes, with lies, and programs that an attacker writes."""

import pickle
import struct

import numpy as np
from hypothesis import strategies as st

PROTO, STOP, MARK, EMPTY_DICT, EMPTY_LIST = b"\x80\x02", b".", b"(", b"}", b"]"
MEMOIZE = b"\x94"


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """BININT, or LONG1."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = pickle.encode_long(value)
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<i", len(raw)) + raw


def tupled(*items: bytes) -> bytes:
    """MARK … TUPLE."""
    return MARK + b"".join(items) + b"t"


def function(name: str) -> bytes:
    """GLOBAL."""
    module, _, attribute = name.rpartition(".")
    return b"c" + f"{module}\n{attribute}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    """GLOBAL, a tuple, REDUCE."""
    return function(name) + tupled(*arguments) + b"R"


def mapping(items: dict[str, bytes]) -> bytes:
    """EMPTY_DICT, MARK, keys and values, SETITEMS."""
    return EMPTY_DICT + MARK + b"".join(text(key) + value for key, value in items.items()) + b"u"


def doubled(levels: int, last: bytes = b"N") -> bytes:
    """A tuple that contains the previous one twice: 2^levels leaves to whoever walks it."""
    return last + b"".join(
        b"q" + bytes([level % 256]) + b"h" + bytes([level % 256]) + b"\x86" for level in range(levels)
    )


def nested(levels: int) -> bytes:
    """Lists in lists."""
    return EMPTY_LIST * levels + b"a" * (levels - 1)


_SELF = EMPTY_LIST + b"q\x00h\x00a"
_SELF_DICT = EMPTY_DICT + b"q\x00" + text("model") + b"h\x00s"
_SHARED = b"N" + b"".join(
    b"q" + bytes([n]) + b"0" + EMPTY_DICT + MARK + text("a") + b"h" + bytes([n]) + text("b") + b"h" + bytes([n]) + b"u"
    for n in range(40)
)
_COPIES = b"](" + b"N" * 100_000 + b"eq\x000](" + b"c__builtin__\ntuple\nh\x00\x85R" * 100_000 + b"e"
_ENCODED = text("a" * 1_000_000) + b"q\x000](" + b"c_codecs\nencode\nh\x00\x85R" * 100_000 + b"e"
_CLASS = called("a.Mapping") + b"q\x00" + MARK + text("model") + b"h\x00" + text("bn1.weight") + b"h\x00u"
_DTYPE = (
    called("numpy.dtype", text("u2"), b"\x89", b"\x88")
    + tupled(number(3), text("<"), *[b"N"] * 3, *[b"J\xff\xff\xff\xff"] * 2)
    + b"b"
)
_SHARING = (
    *(b"B", struct.pack("<I", 40_000_000), bytes(40_000_000), b"q\x000"),
    *(_DTYPE, b"q\x010", EMPTY_DICT, MARK),
    *(
        text(f"layer{layer}.{block}.bn1.{name}")
        + called("numpy.core.multiarray._reconstruct", b"N", tupled(), b"C\x01b")
        + tupled(number(1), tupled(number(20_000_000)), b"h\x01", b"\x89", b"h\x00")
        + b"b"
        for layer in (1, 2, 3, 4)
        for block in range(4)
        for name in ("weight", "bias", "_mean", "_variance")
    ),
    b"u",
)
HOSTILE = (
    b"".join(_SHARING),
    _COPIES,
    _ENCODED,
    _CLASS,
    EMPTY_DICT + b"q\x00" + text("a") + EMPTY_LIST + b"h\x00as",
    doubled(30),
    EMPTY_DICT + doubled(30) + b"N" + b"s",
    mapping({"a": doubled(40)}),
    called("collections.OrderedDict", EMPTY_LIST + doubled(30) + b"N\x86" + b"a"),
    doubled(30) + doubled(30) + b"\x93",
    called("numpy.dtype", doubled(30)),
    called("_codecs.encode", text("a"), doubled(30)),
    _SELF,
    _SELF_DICT,
    _SHARED,
    nested(100_000),
    EMPTY_DICT * 5_000_000,
    b"(" * 3_000_000,
    number(10**4000),
    b"I" + b"9" * 5000 + b"\n",
    called("os.system", text("touch executed")),
    called("builtins.eval", text("1")),
    mapping({"__reduce__": called("subprocess.Popen", text("touch"))}),
    b"cos\nsystem\n" + text("touch executed") + b"\x81",
    b"P0\n",
    b"\x82\x01",
)
"""Programs without their first and last opcode."""
SIZES = st.sampled_from((0, 1, 2, 3, 6, 7, 2**31, 2**63, -1, 10**30))
KEYS = st.sampled_from(
    ("layer1.0.conv1.weight", "layer1.0.bn1._mean", "bn1.running_var", "fc.weight", "a" * 5000, "\ud800", "")
)


def program(body: bytes) -> bytes:
    """A whole pickle."""
    return PROTO + body + STOP


VALID_ARRAYS = {
    "layer1.0.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "layer1.0.bn1._mean": np.ones(2, np.float16),
    "blocks.0.conv0.conv.weight": np.zeros((3, 3), np.uint16),
    "n": np.float64(3),
}
