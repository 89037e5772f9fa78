"""Small pictures of images, all in one text.

A page with 25,000 pictures as elements takes tens of seconds to open. Here all are one text, the base64 of one picture after the
other: the address `data:image/webp;base64,…` of a picture is a slice of it, and a page makes it when the picture comes into view.
"""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from retrieval.data.images import UnreadableImageError, open_bytes
from retrieval.data.sources import ImageSource

SIDES = (320, 256, 192, 128, 96)
SMALLEST = 64
LARGE_BYTES = 12_000_000
"""Bytes of the text up to which pictures are larger than `SMALLEST`; 25,000 of the smallest take about 30 MB."""
QUALITY = {SMALLEST: 45}
DEFAULT_QUALITY = 60
"""WebP's; at 64 px, 45 is 0.9 KB an image, and the loss is not seen at this size."""
_SAMPLE = 48


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Pictures of n images.

    Attributes:
        side: the longer side in pixels.
        text: all pictures as WebP in base64.
        ends: uint32 [n], where each picture ends in the text; an image that cannot be read has an empty one.
        unreadable: how many of these there are.
    """

    side: int
    text: str
    ends: np.ndarray
    unreadable: int

    def address(self, place: int) -> str:
        """The `data:` address of one picture; empty if the image could not be read."""
        start = int(self.ends[place - 1]) if place else 0
        piece = self.text[start : int(self.ends[place])]
        return f"data:image/webp;base64,{piece}" if piece else ""


def thumbnails(images: Sequence[tuple[ImageSource, str]], *, progress: bool = True) -> Thumbnails:
    """Pictures of images, as large as `LARGE_BYTES` allows.

    Args:
        images: where each image is, and its id.
        progress: show a progress bar.
    """
    with ThreadPool(os.cpu_count()) as pool:
        side = _side(images, pool)
        made = pool.imap(lambda image: _picture(image[0], image[1], side), images, chunksize=16)
        pieces = list(tqdm(made, "thumbnails", len(images), unit="image", disable=not progress))
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.uint32)
    return Thumbnails(side, "".join(pieces), ends, sum(not piece for piece in pieces))


def _side(images: Sequence[tuple[ImageSource, str]], pool: ThreadPool) -> int:
    """The largest side with which all pictures are expected to fit, from a sample."""
    sample = [images[place] for place in np.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).astype(int)]
    for side in SIDES:
        sizes = [
            len(piece) for piece in pool.starmap(_picture, [(source, image_id, side) for source, image_id in sample])
        ]
        if not sizes or np.mean(sizes) * len(images) <= LARGE_BYTES:
            return side
    return SMALLEST


def shrunk(data: bytes, place: str, side: int) -> bytes:
    """An image file as a WebP of at most `side` pixels: upright, whole, and no larger than the image.

    Raises:
        UnreadableImageError: it cannot be decoded; `place` is where it comes from, for the message.
    """
    with open_bytes(data, place) as image:
        image.draft("RGB", (2 * side, 2 * side))
        small = ImageOps.exif_transpose(image).convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)  # makes nothing larger
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY.get(side, DEFAULT_QUALITY), method=2)
    return buffer.getvalue()


def _picture(source: ImageSource, image_id: str, side: int) -> str:
    """One picture in base64; empty if the image cannot be read."""
    try:
        data = shrunk(source.read(image_id), source.place(image_id), side)
    except UnreadableImageError:
        return ""
    return base64.b64encode(data).decode("ascii")
