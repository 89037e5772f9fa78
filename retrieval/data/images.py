"""Decodes images as the contest's scorer does, from a fixed list of formats and within a limit."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from zoo.contest import IMAGE_FORMATS
from zoo.errors import DataError
from zoo.limits import IMAGE_PIXELS

# Pillow warns of palettes and of sizes in the middle of a progress bar; what it warns of is decided here.
warnings.filterwarnings("ignore", module=r"PIL\.")

_STRIP = 1 << 22
"""Pixels that are converted at once: a large image and its copy never exist together."""
_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
"""Pillow's modes of one channel with more than 8 bits; converting one to RGB clips every value at 255."""


class UnreadableImageError(DataError):
    """An image file that is missing or cannot be decoded completely; `reason` does not include the path."""

    def __init__(self, path: Path, reason: str):
        self.reason = reason
        super().__init__(
            f"{path}: {reason}; expected a whole image as {', '.join(IMAGE_FORMATS)}. "
            "Next: `python -m retrieval.data.check --data DIR` lists every such image, so that training skips them."
        )


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file in one of the formats `zoo.contest.IMAGE_FORMATS`; the pixels are decoded when they are used.

    Raises:
        UnreadableImageError: here or while its pixels are decoded: the file is missing, cut short, in another format, or
            larger than `zoo.limits.IMAGE_PIXELS`.
    """
    # If another library has enabled this, a truncated image filled with grey would be accepted.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            width, height = image.size
            if width * height > IMAGE_PIXELS:
                raise UnreadableImageError(
                    path, f"{width} × {height} pixels, more than the limit of {IMAGE_PIXELS // 10**6} megapixels"
                )
            yield image
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError(path, "no such file") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(path, "not an image") from None
    except Exception as error:  # PIL's decoders raise nearly every built-in exception for broken bytes
        raise UnreadableImageError(path, str(error) or type(error).__name__) from error


def read_image(path: Path) -> np.ndarray:
    """The image as the contest's scorer reads it: uint8 [H, W, 3] RGB, without EXIF rotation.

    Raises:
        UnreadableImageError: the file is missing, cut short, in another format, or too large.
    """
    with open_image(path) as image:
        image.load()
        width, height = image.size
        pixels = np.empty((height, width, 3), np.uint8)
        rows = max(1, _STRIP // max(1, width))
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            strip = image if bottom - top == height else image.crop((0, top, width, bottom))
            pixels[top:bottom] = np.asarray(strip.convert("RGB"))
        return pixels


def clipping(path: Path) -> str | None:
    """Why decoding an image loses its bright parts, or None.

    Pillow, and so the contest's scorer, clips 16-bit and floating-point grey images at 255 instead of scaling them: most of
    them become white.

    Raises:
        UnreadableImageError: the file is missing, not an image, or too large.
    """
    with open_image(path) as image:
        if image.mode in _DEEP:
            return f"grey with more than 8 bits (mode {image.mode}): values above 255 become white"
    return None
