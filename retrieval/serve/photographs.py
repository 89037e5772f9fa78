"""Photographs as they are uploaded and as they are shown."""

import base64
import io

import numpy as np
from PIL import Image, ImageOps

from retrieval.data.images import open_bytes, pixels_of

PREVIEW = 720
"""Longest side in pixels of an uploaded photograph as the page shows it."""
_QUALITY = 82


def upright(data: bytes) -> np.ndarray:
    """The pixels of a photograph, uint8 [H, W, 3], turned as its EXIF data say: phones store photographs as the sensor sees them.

    The contest's scorer does not turn images, and neither does `landmark-zoo embed`; the images of published data sets are upright.

    Raises:
        UnreadableImageError: it cannot be decoded completely, is in another format, or too large.
    """
    with open_bytes(data, "the photograph") as image:
        ImageOps.exif_transpose(image, in_place=True)
        return pixels_of(image)


def preview(pixels: np.ndarray) -> str:
    """A `data:` URI of a photograph, at most `PREVIEW` pixels wide and high."""
    small = Image.fromarray(pixels)
    small.thumbnail((PREVIEW, PREVIEW), reducing_gap=2)
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(small)).decode("ascii")


def as_jpeg(image: Image.Image) -> bytes:
    """An RGB image as a JPEG file, without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
