"""Converts a uint8 image to a network's input. Training, embedding and the exported graph all follow this definition.

An image of any height and width is stretched to a square by bilinear resampling with antialiasing (a triangle filter
whose support grows with the scale, as in Pillow's `Image.resize` and TensorFlow's `tf.image.resize(antialias=True)`),
kept in floating point, scaled to 0…1 and normalised per channel.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zoo.specs import PreprocessSpec

_BAND = 16
"""Output pixels that are computed together. They need few of the input pixels, so most of the weights that are 0 are left out."""


class _Band(NamedTuple):
    """Neighbouring output pixels along one side, and the input pixels that they are made from.

    Attributes:
        made: the output pixels.
        needed: the input pixels.
        weights: float32 [made, needed]; every row sums to 1.
    """

    made: slice
    needed: slice
    weights: np.ndarray


@functools.lru_cache(maxsize=4096)
def _triangle_filter(length: int, size: int) -> tuple[_Band, ...]:
    """How `length` pixels become `size` with antialiasing.

    Computed in float32 and in the same order as TensorFlow's kernel (ScaleAndTranslate), in order to round as the
    exported graph does: pixels then differ from the graph's by 1e-4 of 255; with exact weights it would be 5e-3.
    """
    one, half = np.float32(1), np.float32(0.5)
    step = one / (np.float32(size) / np.float32(length))
    support = max(step, one)
    centres = (np.arange(size, dtype=np.float32) + half) * step
    bands = []
    for made in _bands(size):
        centre = centres[made, None]
        needed = slice(max(0, int(centre[0, 0] - support) - 1), min(length, int(centre[-1, 0] + support) + 2))
        places = np.arange(needed.start, needed.stop, dtype=np.float32) + half
        weights = np.maximum(np.float32(0), one - np.abs(places - centre) / support)
        bands.append(_Band(made, needed, weights * (one / weights.sum(axis=1, keepdims=True))))
    return tuple(bands)


@functools.lru_cache(maxsize=4096)
def _nearest_two(length: int, size: int) -> tuple[_Band, ...]:
    """How `length` pixels become `size` by bilinear sampling without antialiasing (TensorFlow's ResizeBilinear)."""
    half = np.float32(0.5)
    scale = np.float32(length) / np.float32(size)
    places = (np.arange(size, dtype=np.float32) + half) * scale - half
    bands = []
    for made in _bands(size):
        below = np.floor(places[made])
        share = places[made] - below
        first, second = np.maximum(below, 0).astype(int), np.minimum(below + 1, length - 1).astype(int)
        needed = slice(int(first[0]), int(second[-1]) + 1)
        weights = np.zeros((len(below), needed.stop - needed.start), np.float32)
        rows = np.arange(len(below))
        np.add.at(weights, (rows, first - needed.start), 1 - share)
        np.add.at(weights, (rows, second - needed.start), share)
        bands.append(_Band(made, needed, weights))
    return tuple(bands)


def _bands(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _BAND, size)) for start in range(0, size, _BAND))


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
    bands_of = {"antialias": _triangle_filter, "bilinear": _nearest_two}[how]
    # Rows first, so that a tall image is small before the columns are computed.
    rows = _along_the_first_side(image.reshape(height, width * channels), bands_of(height, size))
    by_column = _transposed(rows.reshape(size, width, channels)).reshape(width, size * channels)
    columns = _along_the_first_side(by_column, bands_of(width, size))
    return _transposed(columns.reshape(size, size, channels))


def _along_the_first_side(pixels: np.ndarray, bands: tuple[_Band, ...]) -> np.ndarray:
    """Resizes [length, values] to float32 [size, values]."""
    resized = np.empty((bands[-1].made.stop, pixels.shape[1]), np.float32)
    for band in bands:
        np.matmul(band.weights, pixels[band.needed].astype(np.float32), out=resized[band.made])
    return resized


def _transposed(image: np.ndarray) -> np.ndarray:
    """[H, W, C] to [W, H, C]. A pixel is moved as one item, which is twice as fast as number by number."""
    pixels = image.view(np.dtype((np.void, image.itemsize * image.shape[2])))[..., 0]
    return np.ascontiguousarray(pixels.T)[..., None].view(image.dtype)


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
