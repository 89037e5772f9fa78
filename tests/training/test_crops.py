"""Crops of images: Pillow's pixels at full size, the same picture at less, and what is no whole image is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from retrieval.data.images import UnreadableImageError, open_bytes, pixels_of
from training import images
from training.images import read_crop

WHOLE = (0, 0, 1 << 30, 1 << 30)


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Colours that change over some pixels, with fine detail on top."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def read(data: bytes, size: int, box: tuple[int, int, int, int] = WHOLE) -> np.ndarray:
    def choose(width: int, height: int) -> tuple[int, int, int, int]:
        return box[0], box[1], min(box[2], width), min(box[3], height)

    return read_crop(data, "a.jpg", size, choose)


def by_pillow(data: bytes, size: int, box: tuple[int, int, int, int] = WHOLE) -> np.ndarray:
    with open_bytes(data, "a.jpg") as opened:
        image = Image.fromarray(pixels_of(opened))
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif.tobytes()


FORMS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 3},
    "stored as RGB": {"keep_rgb": True},
    "rotated by EXIF": {"exif": rotated()},
    "several pictures": {"form": "MPO"},
    "PNG": {"form": "PNG"},
    "WebP": {"form": "WEBP"},
}


@pytest.mark.parametrize("large", [0, 1 << 17], ids=["four bytes per pixel", "three"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("form", FORMS)
def test_at_full_size_the_pixels_are_pillows(form, mode, large, monkeypatch):
    kind = FORMS[form].get("form", "JPEG")
    if (mode == "CMYK" and kind != "JPEG") or (mode != "RGB" and "keep_rgb" in FORMS[form]):
        pytest.skip("there is no such file")
    monkeypatch.setattr(images, "LARGE", large)
    fast = []
    decode = images.simplejpeg.decode_jpeg
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", lambda *a, **k: fast.append(decode(*a, **k)) or fast[-1])
    rng = np.random.default_rng(1)
    for seed, (width, height) in enumerate([(1, 1), (2, 3), (17, 9), (64, 48), (77, 123), (131, 66)]):
        data = encoded(photograph(seed, width, height).convert(mode), **FORMS[form])
        left, top = int(rng.integers(width)), int(rng.integers(height))
        box = (left, top, int(rng.integers(left + 1, width + 1)), int(rng.integers(top + 1, height + 1)))
        size = max(box[2] - box[0], box[3] - box[1])  # so large that nothing is decoded at less
        for chosen, side in ((box, size), (box, 2 * size), (WHOLE, max(width, height))):
            np.testing.assert_array_equal(read(data, side, chosen), by_pillow(data, side, chosen))
    assert bool(fast) == (mode != "CMYK" and kind in ("JPEG", "MPO"))


@pytest.mark.parametrize("options", [{"subsampling": 2}, {"subsampling": 0, "progressive": True}])
@pytest.mark.parametrize(("width", "height"), [(512, 384), (509, 387)])
@pytest.mark.parametrize("size", [32, 60, 100, 150])
def test_a_scaled_decode_shows_the_same_part(width, height, size, options, monkeypatch):
    """A box that is off by one of the scaled pixels would differ by more than this."""
    shapes = []
    decode = images.simplejpeg.decode_jpeg

    def watched(*given, **named):
        pixels = decode(*given, **named)
        shapes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", watched)
    data = encoded(photograph(3, width, height), quality=92, **options)
    for box in (WHOLE, (101, 77, 101 + 3 * size, 77 + 2 * size), (width - 2 * size, height - 2 * size, width, height)):
        box = (box[0], box[1], min(box[2], width), min(box[3], height))
        shorter = min(box[2] - box[0], box[3] - box[1])
        expected = by_pillow(data, size, box).astype(float)
        found = read(data, size, box).astype(float)
        divisor = max([d for d in (1, 2, 4, 8) if shorter >= size * d])
        assert shapes[-1] == (-(-height // divisor), -(-width // divisor))
        assert np.abs(found - expected).mean() < (2.0 if divisor > 1 else 1e-9)
        shifted = by_pillow(data, size, (box[0], box[1], box[2] - divisor, box[3] - divisor)).astype(float)
        if divisor > 1:
            assert np.abs(found - expected).mean() < np.abs(found - shifted).mean()


def test_a_scaled_decode_is_never_enlarged():
    for shorter in range(1, 400, 7):
        for size in (8, 24, 50):
            divisor = images._divisor((3, 5, 3 + shorter, 5 + 2 * shorter), size)
            assert divisor == images._divisor((5, 3, 5 + 2 * shorter, 3 + shorter), size)
            assert divisor == 1 or shorter / divisor >= size
            assert divisor == 8 or shorter / (2 * divisor) < size


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("size", [16, 128])
def test_a_file_that_is_cut_off_is_refused_at_every_scale(size, options):
    data = encoded(photograph(4, 160, 130), **options)
    assert read(data + b"what follows an image does not matter", size).shape == (size, size, 3)
    for kept in (len(data) - 1, len(data) - 2, len(data) - 60, len(data) // 2, 400, 30, 2, 0):
        with pytest.raises(UnreadableImageError, match=r"^a\.jpg: "):
            read(data[:kept], size)


def test_what_is_accepted_does_not_depend_on_the_decoder():
    """Damage inside a file, where libjpeg only warns: whatever Pillow says is done."""
    data = encoded(photograph(5, 160, 130), quality=80)
    rng, refused, kept = np.random.default_rng(2), 0, 0
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(2, len(data), 3):
            damaged[place] = int(rng.integers(256))
        try:
            expected = by_pillow(bytes(damaged), 100)
        except UnreadableImageError:
            refused += 1
            with pytest.raises(UnreadableImageError):
                read(bytes(damaged), 100)
            continue
        kept += 1
        np.testing.assert_array_equal(read(bytes(damaged), 100), expected)
    assert refused and kept


def test_limits_are_those_of_every_image(monkeypatch):
    data = encoded(photograph(6, 64, 64))
    monkeypatch.setattr("retrieval.data.images.IMAGE_MEMORY", 9 * 64 * 64 - 1)
    with pytest.raises(UnreadableImageError, match="more than the limit of .* megapixels of a JPEG"):
        read(data, 16)
    with pytest.raises(UnreadableImageError, match="not an image of an expected format"):
        read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 16)
