"""Augmentation of training images: random resized crop, mirroring and colour jitter."""

import numpy as np
from PIL import Image

CROP_ATTEMPTS = 10
LOG_ASPECT = (np.log(3 / 4), np.log(4 / 3))
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601 weights of red, green and blue, as in Pillow's convert("L")."""


def augment(
    image: np.ndarray,
    size: int,
    rng: np.random.Generator,
    crop_area: tuple[float, float],
    flip: bool,
    jitter: float,
) -> np.ndarray:
    """A random resized crop with mirroring and colour jitter, after Szegedy et al. 2015 (arXiv 1409.4842).

    Args:
        image: uint8 [H, W, 3].
        size: side of the result in pixels.
        rng: the only source of randomness.
        crop_area: smallest and largest share of the image's area; the aspect ratio is log-uniform in 3/4 … 4/3.
        flip: mirror left and right with probability 0.5.
        jitter: brightness, contrast and saturation are each scaled by a factor uniform in 1 ± jitter.

    Returns:
        uint8 [size, size, 3].
    """
    box = _random_box(image.shape[1], image.shape[0], rng, crop_area)
    crop = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    if flip and rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if not jitter:
        return np.array(crop)
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32)
    pixels = np.asarray(crop, np.float32) * brightness
    grey = pixels @ LUMA
    pixels = saturation * pixels + (1 - saturation) * grey[..., None]
    pixels = contrast * pixels + (1 - contrast) * grey.mean()
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _random_box(
    width: int, height: int, rng: np.random.Generator, area: tuple[float, float]
) -> tuple[int, int, int, int]:
    for _ in range(CROP_ATTEMPTS):
        pixels = width * height * rng.uniform(*area)
        aspect = np.exp(rng.uniform(*LOG_ASPECT))
        w, h = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    # A very wide or tall image may have no such crop; take the largest central one with the nearest allowed aspect ratio.
    low, high = np.exp(LOG_ASPECT)
    w, h = max(1, min(width, round(height * high))), max(1, min(height, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
