"""The seeded images on which every export is checked: structured, and of unusual sizes."""

import numpy as np

from zoo.preprocess import resize
from zoo.specs import PreprocessSpec


def picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float32 [height, width, 3], 0 to 255: coloured patches of two sizes with noise, different in every direction."""
    side = max(height, width)
    coarse, fine = (resize(random.integers(0, 256, (cells, cells + 2, 3), dtype=np.uint8), side) for cells in (4, 17))
    picture = 0.6 * coarse + 0.3 * fine + random.uniform(0, 25, (side, side, 3)).astype(np.float32)
    return np.clip(picture[:height, :width], 0, 255).astype(np.float32)


def pixel_batches(size: int, seed: int = 2020) -> dict[str, np.ndarray]:
    """Resized pixels float32 [N, H, W, 3], 0 to 255, by name: several batch sizes, even and odd heights and widths."""
    random = np.random.default_rng(seed)
    shapes = [(1, size, size), (3, size, size), (2, size + 1, size - 3), (1, size // 2 + 1, size + 33)]
    return {f"b{n}x{h}x{w}": np.stack([picture(random, h, w) for _ in range(n)]) for n, h, w in shapes}


def single_picture(size: int) -> dict[str, np.ndarray]:
    """One picture of a size as a batch float32 [1, size, size, 3], 0 to 255, by name."""
    return {f"b1x{size}x{size} alone": picture(np.random.default_rng(size), size, size)[None]}


def resized_images(spec: PreprocessSpec) -> dict[str, np.ndarray]:
    """`images` of the spec's size as Python resizes them: batches of one, float32 [1, size, size, 3], by the same names."""
    return {name: resize(image, spec.size, spec.resize)[None] for name, image in images(spec.size).items()}


def images(size: int) -> dict[str, np.ndarray]:
    """uint8 [H, W, 3] by name: a single pixel, a line, portrait, landscape, a panorama, the size itself."""
    random = np.random.default_rng(2210)
    shapes = [(1, 1), (1, 300), (size, size), (333, 250), (250, 333), (90, 1200)]
    return {f"i{h}x{w}": picture(random, h, w).astype(np.uint8) for h, w in shapes}
