"""Images: the scorer's pixels from a fixed list of formats, within a limit, and quietly."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.images import BYTES_PER_PIXEL, PROGRESSIVE, UnreadableImageError, read_image, unfinished
from zoo.contest import IMAGE_FORMATS

CORPUS = Path(__file__).resolve().parents[2] / "reliability" / "corpus"


def picture(number: int, width: int = 60, height: int = 48) -> Image.Image:
    """Smooth, so that JPEG preserves it, and with all rows, columns and channels different."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def test_read_image_gives_the_scorers_pixels_without_exif_rotation(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(1).save(path, quality=80, exif=exif)
    image = read_image(path)
    assert image.shape == (48, 60, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1"])
def test_read_image_makes_three_channels_of_every_mode(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture(1).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (48, 60, 3)
    np.testing.assert_array_equal(image, np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("tolerant", [False, True])
def test_a_truncated_jpeg_is_never_half_grey(tmp_path, monkeypatch, progressive, share, tolerant):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", tolerant)
    path = tmp_path / "a.jpg"
    picture(2, 300, 200).save(path, quality=95, progressive=progressive)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImageError, match=r"a\.jpg.*python -m retrieval\.data\.check --data DIR"):
        read_image(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_download_that_reserved_its_space_and_stopped_is_noticed(tmp_path, progressive):
    """Pillow decodes it without an error."""
    path = tmp_path / "a.jpg"
    picture(2, 300, 200).save(path, quality=95, progressive=progressive)
    whole = path.read_bytes()
    assert unfinished(whole) is None
    assert unfinished(whole + bytes(5000)) is None  # cameras pad
    stopped = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    assert "bytes are zeros: the download stopped" in (unfinished(stopped) or "")
    Image.new("RGB", (99, 99)).save(path, "BMP")  # black
    assert unfinished(path.read_bytes()) is None
    assert unfinished(b"") is None


def test_other_broken_images_say_why(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(path)
    for text in (b"", b"<html>429 Too Many Requests</html>"):
        path.write_bytes(text)
        with pytest.raises(UnreadableImageError, match="not an image"):
            read_image(path)
    picture(1).save(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableImageError, match="not a file"):
        read_image(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnreadableImageError, match="not a file"):
        read_image(path)


LARGE = {"JPEG": {}, "progressive JPEG": {"progressive": True}, "PNG": {}, "GIF": {}, "BMP": {}, "TIFF": {}, "WEBP": {}}


@pytest.mark.parametrize("kind", LARGE)
def test_an_image_whose_decoding_takes_too_much_memory_is_refused(tmp_path, monkeypatch, kind):
    path = tmp_path / "a.jpg"
    picture(1).save(path, kind.split()[-1], **LARGE[kind])
    read_image(path)
    monkeypatch.setattr("retrieval.data.images.IMAGE_MEMORY", 60 * 48 * BYTES_PER_PIXEL[kind] - 1)
    with pytest.raises(UnreadableImageError, match=f"60 × 48 pixels, more than the limit of .* megapixels of a {kind}"):
        read_image(path)


def test_every_format_has_its_limit():
    assert set(BYTES_PER_PIXEL) == {*IMAGE_FORMATS, "MPO", PROGRESSIVE}


def test_a_tile_that_is_larger_than_its_image_is_refused(tmp_path):
    with pytest.raises(UnreadableImageError, match="a tile of 1,600,000,000 bytes, more than the limit"):
        read_image(CORPUS / "image" / "tiff_tile_20000.jpg")


def test_pillow_says_nothing_in_the_middle_of_a_progress_bar(tmp_path):
    picture(1).convert("P").save(tmp_path / "palette.jpg", "PNG", transparency=bytes(range(256)))
    code = f"from retrieval.data.images import read_image; read_image({str(tmp_path / 'palette.jpg')!r})"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_a_large_image_is_converted_in_strips(tmp_path, monkeypatch, mode):
    """The result is Pillow's own conversion of the whole."""
    path = tmp_path / "a.jpg"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8))
    if mode == "I;16":
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (48, 60), np.uint16))
    image = noise if mode == "I;16" else noise.convert(mode)
    if mode == "P":
        image.save(path, "PNG", transparency=bytes(range(256)))
    else:
        image.save(path, "TIFF")
    with Image.open(path) as image:
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    monkeypatch.setattr("retrieval.data.images._STRIP", 60 * 5)
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", "MPO"])
def test_the_first_of_several_frames_is_read(tmp_path, kind):
    path = tmp_path / "a.jpg"
    picture(1).save(path, kind, save_all=True, append_images=[picture(2)])
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 2
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
