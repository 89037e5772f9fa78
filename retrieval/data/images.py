"""Decodes images as the contest's scorer does, from a fixed list of formats and within a limit."""

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from zoo.contest import IMAGE_FORMATS
from zoo.errors import DataError
from zoo.limits import IMAGE_MEMORY, IMAGE_TILE

# Pillow warns of palettes, sizes and EXIF data in the middle of a progress bar; what it warns of is decided here.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

PROGRESSIVE = "progressive JPEG"
BYTES_PER_PIXEL = {"JPEG": 9, "MPO": 9, PROGRESSIVE: 13, "PNG": 9, "GIF": 9, "BMP": 9, "TIFF": 13, "WEBP": 17}
"""Memory that decoding takes at most, measured with Pillow 13 and rounded up; a progressive JPEG's coefficients and a
WebP's canvases exist beside the pixels. With `zoo.limits.IMAGE_MEMORY`, these are 119, 82, 82 and 63 megapixels."""
_STRIP = 1 << 22
"""Pixels that are converted at once: a large image and its copy never exist together."""
_ZEROS = 64
"""Zeros at the end of a file that no image has."""
_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
"""Pillow's modes of one channel with more than 8 bits; converting one to RGB clips every value at 255."""


class UnreadableImageError(DataError):
    """An image file that is missing or cannot be decoded completely; `reason` does not include the path."""

    def __init__(self, place: Path | str, reason: str):
        self.reason = reason
        super().__init__(
            f"{place}: {reason}; expected a whole image as {', '.join(IMAGE_FORMATS)}. "
            "Next: `python -m retrieval.data.check --data DIR` lists every such image, so that training skips them."
        )


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file in one of the formats `zoo.contest.IMAGE_FORMATS`; the pixels are decoded when they are used.

    Raises:
        UnreadableImageError: here or while its pixels are decoded: the file is missing, cut short, in another format, or
            so large that decoding would take more than `zoo.limits.IMAGE_MEMORY`.
    """
    with _reasons(path):
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  (opening a pipe would wait for its writer)
            raise UnreadableImageError(path, "not a file")
        with _opened(path, path) as image:
            yield image


@contextmanager
def open_bytes(data: bytes, place: str) -> Iterator[Image.Image]:
    """As `open_image`, for the bytes of a file; `place` is where they come from, for messages."""
    with _reasons(place), _opened(io.BytesIO(data), place) as image:
        yield image


@contextmanager
def _opened(source: Path | io.BytesIO, place: Path | str) -> Iterator[Image.Image]:
    # If another library has enabled this, a truncated image filled with grey would be accepted.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(source, formats=IMAGE_FORMATS) as image:
        if problem := _too_large(image):
            raise UnreadableImageError(place, problem)
        yield image


@contextmanager
def _reasons(place: Path | str) -> Iterator[None]:
    """Turns whatever opening and decoding raise into an `UnreadableImageError`."""
    try:
        yield
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError(place, "no such file") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(place, "not an image of an expected format, or damaged at its beginning") from None
    except Exception as error:  # PIL's decoders raise nearly every built-in exception for broken bytes
        raise UnreadableImageError(place, str(error) or type(error).__name__) from error


def _too_large(image: Image.Image) -> str | None:
    """Why decoding an image would take too much memory, or None."""
    kind = PROGRESSIVE if image.info.get("progressive") else image.format or ""
    width, height = image.size
    most = IMAGE_MEMORY // BYTES_PER_PIXEL[kind]
    if width * height > most:
        return f"{width} × {height} pixels, more than the limit of {most // 10**6} megapixels of a {kind}"
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))
        samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        tile = tags.get(TiffImagePlugin.TILEWIDTH, 0) * tags.get(TiffImagePlugin.TILELENGTH, 0) * samples * bits // 8
        if tile > IMAGE_TILE:
            return f"a tile of {tile:,} bytes, more than the limit of {IMAGE_TILE:,}"
    return None


def read_image(path: Path) -> np.ndarray:
    """The image as the contest's scorer reads it: uint8 [H, W, 3] RGB, without EXIF rotation.

    Raises:
        UnreadableImageError: the file is missing, cut short, in another format, or too large.
    """
    with open_image(path) as image:
        return pixels_of(image)


def decode(data: bytes, place: str) -> np.ndarray:
    """As `read_image`, for the bytes of a file; `place` is where they come from, for messages."""
    with open_bytes(data, place) as image:
        return pixels_of(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image as `read_image` gives them.

    Raises:
        Exception: what Pillow's decoders raise, which the context of `open_image` or `open_bytes` translates.
    """
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if bottom - top == height else image.crop((0, top, width, bottom))
        pixels[top:bottom] = np.asarray(strip.convert("RGB"))
    return pixels


def clipping(data: bytes, place: str) -> str | None:
    """Why decoding an image file loses its bright parts, or None.

    Pillow, and so the contest's scorer, clips 16-bit and floating-point grey images at 255 instead of scaling them: most of
    them become white.

    Raises:
        UnreadableImageError: it is not an image, or too large.
    """
    with open_bytes(data, place) as image:
        if image.mode in _DEEP:
            return f"grey with more than 8 bits (mode {image.mode}): values above 255 become white"
    return None


def unfinished(data: bytes) -> str | None:
    """Why a JPEG that decodes is not whole, or None: a download that reserved its space and stopped ends in zeros.

    Such a file decodes without an error, with grey where its data are missing. Zeros behind the end of a whole image are padding.
    """
    if data[:2] != b"\xff\xd8" or any(data[-_ZEROS:]):
        return None
    whole = data.rstrip(b"\0")
    return (
        None
        if whole.endswith(b"\xff\xd9")
        else f"its last {len(data) - len(whole):,} bytes are zeros: the download stopped"
    )
