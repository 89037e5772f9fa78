"""Augmentation of training images: the box of a random resized crop; mirroring, colour jitter and lighting of the crop."""

import numpy as np

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are outside."""

CROP_ATTEMPTS = 10
LOG_ASPECT = (np.log(3 / 4), np.log(4 / 3))
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601 weights of red, green and blue, as in Pillow's convert("L")."""
COLOUR_VARIANCES = np.array([0.2175, 0.0188, 0.0045], np.float32)
"""Eigenvalues of the covariance of ImageNet's RGB pixels of 0 … 1, as published with fb.resnet.torch."""
COLOUR_AXES = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32)
"""Their eigenvectors, one per column."""


def random_box(width: int, height: int, rng: np.random.Generator, area: tuple[float, float]) -> Box:
    """The box of a random resized crop, after Szegedy et al. 2015 (arXiv 1409.4842).

    Args:
        width, height: of the image, in pixels.
        rng: the only source of randomness.
        area: smallest and largest share of the image's area; the aspect ratio is log-uniform in 3/4 … 4/3.
    """
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


def augment(
    crop: np.ndarray, rng: np.random.Generator, *, flip: bool, jitter: float, lighting: float = 0.0
) -> np.ndarray:
    """Random changes of a crop.

    Args:
        crop: uint8 [H, W, 3] RGB; not changed.
        rng: the only source of randomness. What is switched off draws no number.
        flip: mirror left and right with probability 0.5.
        jitter: brightness, contrast and saturation are each scaled by a factor uniform in 1 ± jitter.
        lighting: standard deviation of the lighting noise of Krizhevsky et al. 2012, section 4.1: each principal component of
            ImageNet's colours is added to all pixels, times its variance and a normal number. 0.1 is usual.

    Returns:
        uint8 [H, W, 3]; `crop` itself if nothing is changed.
    """
    if flip and rng.random() < 0.5:
        crop = _mirrored(crop)
    if not jitter and not lighting:
        return crop
    pixels = crop.astype(np.float32)
    if jitter:
        pixels = _jittered(pixels, *rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32))
    if lighting:
        strengths = rng.normal(0, lighting, 3).astype(np.float32)
        pixels += 255 * (COLOUR_AXES @ (strengths * COLOUR_VARIANCES))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _mirrored(crop: np.ndarray) -> np.ndarray:
    """Channel by channel, which is 3.5 times as fast as copying a mirrored view: its inner loops have three bytes."""
    mirrored = np.empty_like(crop)
    for channel in range(crop.shape[2]):
        mirrored[..., channel] = crop[:, ::-1, channel]
    return mirrored


def _jittered(pixels: np.ndarray, brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    pixels = pixels * brightness
    grey = pixels @ LUMA
    pixels = saturation * pixels + (1 - saturation) * grey[..., None]
    return contrast * pixels + (1 - contrast) * grey.mean()
