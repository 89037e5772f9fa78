"""Image files of every format that Pillow knows, whatever their suffix (`retrieval.data.images.read_image`, `training.images.read_crop`)."""

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
from training.images import read_crop

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


_TIFF_LIES: dict[int, tuple[int, ...]] = {
    **dict.fromkeys((256, 257, 278, 322, 323), (0, 1, 9, 16, 8000, 16384, 20000, 65536, 2**31, 2**32 - 1)),  # sides
    258: (1, 2, 4, 8, 12, 16, 32, 64),  # bits per sample
    259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34676, 34925, 50000, 50001, 99),  # compression
    262: tuple(range(9)),  # photometric
    277: (0, 1, 2, 3, 4, 6, 65535),  # samples per pixel
    279: (0, 2**31, 2**32 - 1),  # bytes of a strip
    284: (1, 2),  # planes
    325: (0, 2**31, 2**32 - 1),  # bytes of a tile
    339: (1, 2, 3, 4),  # format of a sample
}


@st.composite
def _tiff(draw: st.DrawFn) -> bytes:
    """A TIFF file with up to three untrue tags: sizes, tiles, strips, samples, types, compression."""
    samples = draw(st.sampled_from((1, 3, 4)))
    data = draw(st.sampled_from((zlib.compress(bytes(1 << 16)), zlib.compress(bytes(1 << 20)), bytes(2000))))
    photometric = 2 if samples > 1 else 1
    values = {
        256: [16],
        257: [16],
        258: [8] * samples,
        259: [8],
        262: [photometric],
        277: [samples],
        339: [1] * samples,
    }
    if samples == 4:
        values[338] = [2]
    values |= (
        {322: [16], 323: [16], 324: [8], 325: [len(data)]}
        if draw(st.booleans())
        else {273: [8], 278: [16], 279: [len(data)]}
    )
    square = draw(st.sampled_from(_TIFF_LIES[322]))
    for tag in draw(st.lists(st.sampled_from(sorted(values.keys() & _TIFF_LIES.keys())), max_size=3, unique=True)):
        lie = square if tag in (322, 323) else draw(st.sampled_from(_TIFF_LIES[tag]))
        values[tag] = [lie] * len(values[tag])
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
    data = path.read_bytes()
    clipping(data, str(path))
    crop = read_crop(data, str(path), 2, lambda width, height: (width // 3, height // 3, width, height))
    assert crop.dtype == np.uint8 and crop.shape == (2, 2, 3)


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
