"""The preprocessing compared with Pillow, which resamples with the same filter."""

import math

import numpy as np
import pytest
from PIL import Image

from zoo.preprocess import network_input, normalise, resize
from zoo.specs import PreprocessSpec


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (31, 47), (64, 64), (333, 77), (640, 480), (50, 3000)])
def test_resize_equals_pillow_in_floating_point(shape):
    image = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)
    planes = [
        Image.fromarray(image[..., c].astype(np.float32)).resize((64, 64), Image.Resampling.BILINEAR) for c in range(3)
    ]
    found = resize(image, 64)
    assert found.dtype == np.float32
    # Measured at most 3e-4 of 255: float32 positions, as in the graph, versus Pillow's float64 ones.
    np.testing.assert_allclose(found, np.stack([np.array(plane) for plane in planes], -1), rtol=0, atol=5e-4)


def test_normalise_orders_channels():
    pixels = np.zeros((1, 2, 3, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 255, 51, 102
    spec = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.2)}
    rgb = normalise(pixels, PreprocessSpec(**spec))
    assert rgb.shape == (1, 3, 2, 3)
    np.testing.assert_allclose(rgb[0, :, 0, 0], [(1 - 0.1) / 0.5, 0, (0.4 - 0.3) / 0.2], rtol=0, atol=1e-6)
    bgr = normalise(pixels, PreprocessSpec(**spec, channels="bgr"))
    np.testing.assert_allclose(bgr[0, :, 0, 0], [(0.4 - 0.1) / 0.5, 0, (1 - 0.3) / 0.2], rtol=0, atol=1e-6)


def test_network_input():
    image = np.full((7, 9, 3), 255, np.uint8)
    found = network_input(image, PreprocessSpec(size=32))
    assert found.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(
        found[0, :, 5, 5], (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=0, atol=1e-5
    )


def test_another_order_of_channels_is_the_same_picture():
    pixels = np.random.default_rng(1).integers(0, 256, (1, 5, 6, 3), dtype=np.uint8)
    rgb, bgr = (normalise(pixels, PreprocessSpec().in_order(channels)) for channels in ("rgb", "bgr"))
    np.testing.assert_array_equal(bgr, rgb[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (31, 47), (64, 64), (333, 77), (50, 3000)])
def test_bilinear_takes_the_four_nearest(shape):
    """By loops: half-pixel centres, clamped at the edges, for any scale factor."""
    height, width = shape
    image = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = np.zeros((16, 16, 3))
    for i in range(16):
        for j in range(16):
            y, x = (i + 0.5) * height / 16 - 0.5, (j + 0.5) * width / 16 - 0.5
            top, left = math.floor(y), math.floor(x)
            for row, part in ((top, 1 - (y - top)), (top + 1, y - top)):
                for column, share in ((left, 1 - (x - left)), (left + 1, x - left)):
                    pixel = image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
                    expected[i, j] += part * share * pixel
    # Positions are float32, as in the graph's kernel: 1e-4 of a pixel at 3000.
    np.testing.assert_allclose(resize(image, 16, "bilinear"), expected, rtol=0, atol=0.05)
