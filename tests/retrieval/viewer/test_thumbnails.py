"""Pictures in one text: each is a slice of it, whole, upright, and no larger than the budget or the image allows."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

import retrieval.viewer.thumbnails as module
from retrieval.viewer.thumbnails import SIDES, SMALLEST, Thumbnails, thumbnails
from tests.retrieval.viewer.small_reports import Drawn


def decoded(made: Thumbnails, place: int) -> Image.Image:
    address = made.address(place)
    assert address.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2], validate=True)))


def test_every_slice_is_a_picture_of_its_own():
    names = [f"image {number}" for number in range(20)]
    source = Drawn((400, 200))
    made = thumbnails([(source, name) for name in names], progress=False)
    assert (made.side, made.unreadable, len(made.ends)) == (SIDES[0], 0, 20)
    for place, name in enumerate(names):
        picture = decoded(made, place)
        assert picture.size == (SIDES[0], SIDES[0] // 2)  # not cropped
        original = np.asarray(Image.open(io.BytesIO(source.read(name))))[0, 0].astype(int)
        assert np.abs(np.asarray(picture.convert("RGB"))[5, 5].astype(int) - original).max() < 12


def test_small_images_are_not_made_larger():
    assert decoded(thumbnails([(Drawn((90, 60)), "a")], progress=False), 0).size == (90, 60)


def test_the_side_follows_the_budget(monkeypatch):
    images = [(Drawn((400, 400)), f"image {number}") for number in range(30)]
    large = thumbnails(images, progress=False)
    monkeypatch.setattr(module, "LARGE_BYTES", len(large.text) - 1)
    smaller = thumbnails(images, progress=False)
    assert smaller.side < large.side and len(smaller.text) < len(large.text)
    monkeypatch.setattr(module, "LARGE_BYTES", 1)
    assert thumbnails(images, progress=False).side == SMALLEST


def test_an_image_that_cannot_be_read_is_counted_and_the_others_are_in_their_place():
    source = Drawn()
    made = thumbnails([(source, "a"), (source, "broken"), (source, "b")], progress=False)
    assert made.unreadable == 1 and made.address(1) == ""
    alone = thumbnails([(source, "b")], progress=False)
    assert made.address(2) == alone.address(0) != made.address(0)


def test_pictures_are_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=exif)
    source = Drawn()
    source.read = lambda image_id: (tmp_path / "a.jpg").read_bytes()
    assert decoded(thumbnails([(source, "a")], progress=False), 0).size == (40, 80)


@pytest.mark.parametrize("count", [0, 1])
def test_few_images(count):
    made = thumbnails([(Drawn(), "a")] * count, progress=False)
    assert len(made.ends) == count and (made.text == "") == (count == 0)
