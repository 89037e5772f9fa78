"""Augmentation: boxes, mirroring, jitter and lighting have the asked distributions."""

import numpy as np
import pytest
from PIL import Image

from training.augment import COLOUR_AXES, COLOUR_VARIANCES, augment, random_box


def picture(number: int, width: int = 60, height: int = 48) -> Image.Image:
    """Smooth, and with all rows, columns and channels different."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def cropped(image: np.ndarray, size: int, rng: np.random.Generator, area, flip: bool, jitter: float) -> np.ndarray:
    box = random_box(image.shape[1], image.shape[0], rng, area)
    crop = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))
    return augment(crop, rng, flip=flip, jitter=jitter)


def test_augment_is_a_function_of_the_generator():
    image = np.array(picture(3))
    results = [cropped(image, 32, np.random.default_rng(seed), (0.2, 1), True, 0.4) for seed in (1, 1, 2)]
    assert results[0].shape == (32, 32, 3) and results[0].dtype == np.uint8
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0].astype(int) - results[2]).mean() > 2


def test_augment_without_crop_flip_and_jitter_is_a_resize():
    image = np.array(picture(3, 40, 40))
    seen = [cropped(image, 20, np.random.default_rng(seed), (1, 1), False, 0) for seed in range(30)]
    whole = np.array(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR))
    # An aspect ratio other than 1 does not fit into the whole area, so the fallback is the whole image.
    assert all(np.array_equal(result, whole) for result in seen)


def test_augment_mirrors_half_of_the_images():
    image = np.array(picture(3, 40, 40))
    whole = np.array(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR))
    mirrored = 0
    for seed in range(200):
        result = cropped(image, 20, np.random.default_rng(seed), (1, 1), True, 0)
        assert np.array_equal(result, whole) or np.array_equal(result, whole[:, ::-1])
        mirrored += not np.array_equal(result, whole)
    assert 75 < mirrored < 125


def test_crops_have_the_asked_area_aspect_and_place():
    """In an image whose channels are x and y, the corners of a crop tell its box."""
    width, height, size = 240, 180, 48
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)
    boxes = []
    for seed in range(300):
        crop = cropped(image, size, np.random.default_rng(seed), (0.25, 0.5), False, 0).astype(float)
        shares = (size - 1) / size
        w, h = (crop[0, -1, 0] - crop[0, 0, 0]) / shares, (crop[-1, 0, 1] - crop[0, 0, 1]) / shares
        boxes.append((w * h / (width * height), w / h, crop[0, 0, 0], crop[0, 0, 1]))
    area, aspect, left, top = np.array(boxes).T
    assert 0.23 < area.min() < 0.27 and 0.47 < area.max() < 0.53
    assert 0.7 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.42
    assert np.abs(np.median(np.log(aspect))) < 0.08
    assert left.min() < 8 and top.min() < 8 and left.max() > 80 and top.max() > 60


@pytest.mark.parametrize(("width", "height"), [(400, 3), (3, 400), (1, 1)])
def test_very_long_and_tiny_images_still_give_a_crop(width, height):
    image = np.array(picture(3, width, height))
    assert cropped(image, 16, np.random.default_rng(0), (0.9, 1), True, 0.2).shape == (16, 16, 3)


def test_jitter_scales_brightness_contrast_and_saturation():
    image = np.array(picture(4, 40, 40)) // 2 + 40
    plain = cropped(image, 40, np.random.default_rng(0), (1, 1), False, 0).astype(float)
    brightness, contrast, saturation = [], [], []
    for seed in range(100):
        changed = cropped(image, 40, np.random.default_rng(seed), (1, 1), False, 0.2).astype(float)
        grey = [pixels @ [0.299, 0.587, 0.114] for pixels in (changed, plain)]
        brightness.append(grey[0].mean() / grey[1].mean())
        contrast.append(grey[0].std() / grey[1].std() / brightness[-1])
        saturation.append((changed - grey[0][..., None]).std() / (plain - grey[1][..., None]).std())
        saturation[-1] /= brightness[-1] * contrast[-1]
    for factors in (brightness, contrast, saturation):
        assert 0.78 < min(factors) < 0.84 and 1.16 < max(factors) < 1.22


def test_lighting_moves_all_pixels_along_the_colours_of_imagenet():
    crop = np.full((8, 8, 3), 128, np.uint8)
    moved = []
    for seed in range(2000):
        lit = augment(crop, np.random.default_rng(seed), flip=False, jitter=0, lighting=0.5)
        assert (lit == lit[0, 0]).all()
        moved.append(lit[0, 0].astype(float) - 128)
    spread = np.array(moved) @ COLOUR_AXES / 255
    np.testing.assert_allclose(spread.std(0), 0.5 * COLOUR_VARIANCES, rtol=0.06, atol=1e-3)
    np.testing.assert_allclose(COLOUR_AXES.T @ COLOUR_AXES, np.eye(3), atol=2e-3)


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_lighting_is_drawn_last_so_that_without_it_nothing_changes(jitter):
    crop, seen = np.array(picture(5)) // 2 + 60, []
    for lighting in (0.0, 1e-9):
        rng = np.random.default_rng(3)
        seen.append((augment(crop, rng, flip=True, jitter=jitter, lighting=lighting), rng.random()))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert seen[0][1] != seen[1][1], "lighting draws numbers of its own"


def test_a_crop_is_not_changed_in_place():
    crop = np.array(picture(6))
    before = crop.copy()
    augment(crop, np.random.default_rng(0), flip=True, jitter=0.4, lighting=0.5)
    np.testing.assert_array_equal(crop, before)
