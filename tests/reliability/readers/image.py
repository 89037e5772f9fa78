"""Image files of every format that Pillow knows, whatever their suffix (`retrieval.data.images.read_image`)."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from retrieval.data.images import clipping, read_image
from tests.reliability.mutations import damaged
from tests.reliability.reader import Reader

_EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch executed) (w) file closefile\n"
    b"9 9 8 [9 0 0 -9 0 9] {<ff>} image\nshowpage\n%%EOF\n"
)
_WMF = b"\xd7\xcd\xc6\x9a\x00\x00" + struct.pack("<4hHIH", 0, 0, 90, 90, 72, 0, 0) + b"\x01\x00\x09\x00" + bytes(40)


def _valid() -> list[bytes]:
    random = np.random.default_rng(0)
    found = []
    for mode, kinds in {
        "RGB": ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "TGA", "ICO", "PCX", "SGI", "JPEG2000"),
        "L": ("JPEG", "PNG", "GIF"),
        "P": ("PNG", "GIF"),
        "CMYK": ("JPEG", "TIFF"),
        "RGBA": ("PNG", "WEBP"),
        "1": ("PNG", "TIFF"),
        "I;16": ("PNG", "TIFF"),
        "F": ("TIFF",),
    }.items():
        pixels = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
        pixels = Image.new(mode, (12, 9), 3) if mode in ("I;16", "F") else pixels.convert(mode)
        for kind in kinds:
            buffer = io.BytesIO()
            pixels.save(buffer, kind)
            found.append(buffer.getvalue())
    return found


def _png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@st.composite
def _tiff(draw: st.DrawFn) -> bytes:
    """A TIFF file whose tags may lie about sizes, tiles, strips, samples, types and compression."""
    small, huge = (
        st.sampled_from((1, 2, 9, 16)),
        st.sampled_from((0, 1, 9, 4096, 16384, 20000, 65536, 2**31, 2**32 - 1)),
    )
    side, samples = st.one_of(small, huge), draw(st.integers(1, 6))
    data = draw(st.sampled_from((zlib.compress(bytes(4000)), bytes(2000), b"\x80\x0b\x60\x50\x22" * 40)))
    values: dict[int, list[int]] = {
        256: [draw(side)],
        257: [draw(side)],
        258: [draw(st.sampled_from((1, 4, 8, 12, 16, 32, 64)))] * samples,
        259: [draw(st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34676, 34925, 50000, 50001, 99)))],
        262: [draw(st.integers(0, 8))],
        273: [8],
        277: [samples],
        278: [draw(side)],
        279: [draw(st.sampled_from((len(data), 2**31, 2**32 - 1)))],
        284: [draw(st.sampled_from((1, 2)))],
        339: [draw(st.integers(1, 4))],
    }
    if draw(st.booleans()):
        values |= {322: [draw(side)], 323: [draw(side)], 324: [8], 325: [len(data)]}
    for tag in draw(st.lists(st.sampled_from(sorted(values)), max_size=2)):
        values.pop(tag, None)
    place = 8 + len(data)
    entries, more = b"", b""
    for tag, numbers in sorted(values.items()):
        raw = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(raw) > 4:
            raw, more = struct.pack("<I", place + 6 + 12 * len(values) + len(more)), more + raw
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + raw
    return b"II*\0" + struct.pack("<I", place) + data + struct.pack("<H", len(values)) + entries + bytes(4) + more


@st.composite
def _gif(draw: st.DrawFn) -> bytes:
    """A GIF with frames of any place and size, comments and cut data."""
    number = st.sampled_from((0, 1, 9, 255, 5000, 2**16 - 1)).map(lambda value: struct.pack("<H", value))
    blocks = [b"!\xfe\xff" + b"a" * 255 + b"\0", b"!\xf9\x04\x09\0\0\0\0"]
    parts = [b"GIF89a", draw(number), draw(number), b"\x80\0\0\0\0\0\xff\xff\xff"]
    for _ in range(draw(st.integers(1, 5))):
        parts.append(draw(st.sampled_from(blocks)) * draw(st.integers(0, 50)))
        parts += [b",", *(draw(number) for _ in range(4)), b"\0\x02\x02\x44\x01\0"]
    return b"".join(parts) + b";"


def _read(path: Path) -> None:
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
    clipping(path)


_SIDE = st.sampled_from((0, 1, 7, 5000, 2**16, 2**31 - 1))
READER = Reader(
    "image",
    st.one_of(
        st.sampled_from(_valid()).flatmap(damaged),
        st.sampled_from((_EPS, _WMF)).flatmap(lambda valid: st.one_of(st.just(valid), damaged(valid))),
        st.builds(
            _png, _SIDE, _SIDE, st.sampled_from((1, 2, 8, 16)), st.sampled_from((0, 2, 3, 4, 6)), st.just(bytes(5000))
        ),
        _tiff(),
        _gif(),
    ),
    _read,
    place="image.jpg",
)
