"""Reads the crop of a training image, decoding no more of a JPEG than the crop needs."""

from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

from retrieval.data.images import open_bytes, pixels_of
from training.augment import Box

DIVISORS = (8, 4, 2)
"""Divisors of the sides of a JPEG that libjpeg-turbo decodes at quickly, by inverting a smaller transform of each block."""


LARGE = 3
"""Ratio of an image's pixels to the result's above which it is decoded to four bytes per pixel: Pillow resizes such an array without
copying it, but more slowly than one of three bytes. Below, the second saves up to 10 % of the time; above, the first up to 6 %."""


def read_crop(data: bytes, place: str, size: int, choose: Callable[[int, int], Box]) -> np.ndarray:
    """A part of an image, resized to a square by Pillow's bilinear filter.

    A JPEG is decoded at 1/8, 1/4 or 1/2 of its size if the part then still has at least `size` pixels in both directions. At
    full size, the result is bit for bit that of `retrieval.data.images.read_image` and Pillow's resize; scaled, the two differ
    by 0.4 to 1.8 of 255 on average (photographs of 256 to 1600 pixels, results of 64 and 224).

    Args:
        data: an image file.
        place: where it comes from, for messages.
        size: side of the result in pixels.
        choose: returns the part, given width and height of the image without EXIF rotation.

    Returns:
        uint8 [size, size, 3] RGB, read-only.

    Raises:
        UnreadableImageError: the image is cut short, in another format than `zoo.contest.IMAGE_FORMATS`, or too large.
    """
    with open_bytes(data, place) as image:
        box = choose(*image.size)
        decoded, divisor = _decoded(image, data, _divisor(box, size), size)
        left, top, right, bottom = (edge / divisor for edge in box)
        crop = decoded.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.frombuffer(crop.tobytes("raw", "RGB"), np.uint8).reshape(size, size, 3)


def _divisor(box: Box, size: int) -> int:
    """The largest divisor at which a part has at least `size` pixels in both directions, or 1."""
    left, top, right, bottom = box
    shorter = min(right - left, bottom - top)
    return next((divisor for divisor in DIVISORS if shorter >= size * divisor), 1)


def _decoded(image: Image.Image, data: bytes, divisor: int, size: int) -> tuple[Image.Image, int]:
    """The whole image, and what its sides have been divided by.

    simplejpeg stops at a file that is not whole, and at any oddity. Pillow decides what is acceptable, so it gets those and all
    other formats.
    """
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        width, height = (-(-side // divisor) for side in image.size)
        try:
            layout = "RGBX" if width * height > LARGE * size**2 else "RGB"
            pixels = simplejpeg.decode_jpeg(data, layout, min_width=width, min_height=height, min_factor=divisor)
        except ValueError:
            pass
        else:
            return Image.frombuffer(layout, (width, height), pixels, "raw", layout, 0, 1), divisor
    return Image.fromarray(pixels_of(image)), 1
