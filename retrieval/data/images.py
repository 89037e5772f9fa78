"""Decodes images as the contest's scorer does."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from zoo.errors import DataError


class UnreadableImageError(DataError):
    """An image file that is missing or cannot be decoded completely; `reason` does not include the path."""

    def __init__(self, path: Path, reason: str):
        self.reason = reason
        super().__init__(
            f"{path}: {reason}; expected a whole image that PIL can decode. "
            "Next: `python -m retrieval.data.check --data DIR` lists every such image, so that training skips them."
        )


def read_image(path: Path) -> np.ndarray:
    """The image as the contest's scorer reads it: uint8 [H, W, 3] RGB, without EXIF rotation.

    Raises:
        UnreadableImageError: the file is missing, cut short, not an image, or too large to be decoded safely.
    """
    # If another library has enabled this, a truncated image filled with grey would be accepted.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise UnreadableImageError(path, "no such file") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(path, "not an image") from None
    except Exception as error:  # PIL's decoders raise nearly every built-in exception for broken bytes
        raise UnreadableImageError(path, str(error) or type(error).__name__) from error
