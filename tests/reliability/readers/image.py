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
    ),
    _read,
    place="image.jpg",
)
