"""Converts a uint8 image to a network's input. Training, embedding and the exported graph all follow this definition.

An image of any height and width is stretched to a square by bilinear resampling with antialiasing (a triangle filter
whose support grows with the scale, as in Pillow's `Image.resize` and TensorFlow's `tf.image.resize(antialias=True)`),
kept in floating point, scaled to 0…1 and normalised per channel.
"""

import functools

import numpy as np

from zoo.specs import PreprocessSpec


@functools.lru_cache(maxsize=256)
def _triangle_filter(length: int, size: int) -> np.ndarray:
    """Weights float32 [size, length] of each input pixel in each output pixel; every row sums to 1.

    Computed in float32 and in the same order as TensorFlow's kernel (ScaleAndTranslate), in order to round as the
    exported graph does: pixels then differ from the graph's by 1e-4 of 255; with exact weights it would be 5e-3.
    """
    one, half = np.float32(1), np.float32(0.5)
    step = one / (np.float32(size) / np.float32(length))
    support = max(step, one)
    centre = (np.arange(size, dtype=np.float32)[:, None] + half) * step
    distance = np.abs(np.arange(length, dtype=np.float32)[None, :] + half - centre) / support
    weights = np.maximum(np.float32(0), one - distance)
    return weights * (one / weights.sum(axis=1, keepdims=True))


@functools.lru_cache(maxsize=256)
def _nearest_two(length: int, size: int) -> np.ndarray:
    """Weights float32 [size, length] of bilinear sampling without antialiasing (TensorFlow's ResizeBilinear)."""
    half = np.float32(0.5)
    scale = np.float32(length) / np.float32(size)
    place = (np.arange(size, dtype=np.float32) + half) * scale - half
    below = np.floor(place)
    share = place - below
    weights = np.zeros((size, length), np.float32)
    rows = np.arange(size)
    np.add.at(weights, (rows, np.maximum(below, 0).astype(int)), 1 - share)
    np.add.at(weights, (rows, np.minimum(below + 1, length - 1).astype(int)), share)
    return weights


def resize(image: np.ndarray, size: int, how: str = "antialias") -> np.ndarray:
    """Resizes an image to a square, ignoring its aspect ratio.

    Args:
        image: uint8 [H, W, 3]; H and W are at least 1.
        size: side of the square in pixels.
        how: `antialias` or `bilinear` (`PreprocessSpec.resize`).

    Returns:
        float32 [size, size, 3]; values from 0 to 255, not rounded.
    """
    height, width, channels = image.shape
    weights = {"antialias": _triangle_filter, "bilinear": _nearest_two}[how]
    # Rows first, so that a tall image is small before the columns are computed.
    rows = weights(height, size) @ image.reshape(height, width * channels).astype(np.float32)
    return np.einsum("sw,hwc->hsc", weights(width, size), rows.reshape(size, width, channels), optimize=True)


def normalise(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Normalises pixels per channel and orders them as the network expects.

    Args:
        pixels: uint8 or float32 [N, H, W, 3], RGB, values from 0 to 255.
        spec: mean, std and channel order.

    Returns:
        float32 [N, 3, H, W] in the spec's channel order.
    """
    if spec.channels == "bgr":
        pixels = pixels[..., ::-1]
    mean, std = (np.asarray(values, np.float32) for values in (spec.mean, spec.std))
    normalised = (np.asarray(pixels, np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


def network_input(image: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Resizes and normalises a uint8 RGB image [H, W, 3] to float32 [1, 3, size, size]."""
    return normalise(resize(image, spec.size, spec.resize)[None], spec)
