"""The embedding loop: order, batches, several resolutions, decoding ahead, and errors in threads."""

import os
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import UnreadableImageError
from retrieval.embed import BATCHES_AHEAD, Resized, batches, describe, describe_pixels, embed_split
from retrieval.embeddings import Embeddings
from zoo.errors import DataError, OutputError
from zoo.preprocess import resize

SMALL, LARGE = Resized(8, "antialias"), Resized(12, "bilinear")


class Means:
    """Describes an image by the mean of each channel; remembers the sizes of its batches."""

    def __init__(self, *inputs: Resized) -> None:
        self.inputs, self.source, self.sizes = inputs, {"model": "means"}, []

    def __call__(self, batch):
        assert list(batch) == list(self.inputs)
        self.sizes.append(len(batch[self.inputs[0]]))
        return np.concatenate([batch[wanted].mean(axis=(1, 2)) for wanted in self.inputs], axis=1)


@pytest.fixture
def images():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (height, 20, 3), dtype=np.uint8) for height in range(10, 17)]


def test_rows_are_in_the_order_of_the_images_at_each_resolution(images):
    describer = Means(SMALL, LARGE)
    rows = describe(describer, images, batch_size=3, workers=4)
    expected = [np.concatenate([resize(image, *wanted).mean((0, 1)) for wanted in (SMALL, LARGE)]) for image in images]
    assert describer.sizes == [3, 3, 1]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-3)


def test_paths_and_arrays_may_be_mixed(images, tmp_path):
    Image.fromarray(images[1]).save(tmp_path / "1.png")
    mixed = [images[0], tmp_path / "1.png", images[2]]
    np.testing.assert_array_equal(describe(Means(SMALL), mixed), describe(Means(SMALL), images[:3]))


def test_the_next_batches_are_decoded_while_one_is_computed(images, monkeypatch):
    decoded = []
    monkeypatch.setattr("retrieval.embed.resize", lambda image, *_: decoded.append(threading.get_ident()) or image)
    same_size = [images[0]] * 7
    source = batches(same_size, (SMALL,), batch_size=1, workers=2)
    next(source)
    deadline = time.monotonic() + 10
    while len(decoded) < 1 + BATCHES_AHEAD and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(decoded) == 1 + BATCHES_AHEAD, "only the batches ahead, neither fewer nor more"
    assert threading.get_ident() not in decoded
    source.close()


def test_an_unreadable_image_stops_the_loop_with_its_name(images, tmp_path):
    with pytest.raises(UnreadableImageError, match="missing.jpg"):
        describe(Means(SMALL), [*images, tmp_path / "missing.jpg"], batch_size=2)


def test_what_is_no_image_is_refused(images):
    for wrong in (images[0].astype(np.float32), images[0][..., 0], np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match=r"expected uint8 \[height, width, 3\]"):
            describe(Means(SMALL), [wrong])
    with pytest.raises(DataError, match="no images"):
        describe(Means(SMALL), [])


@pytest.mark.parametrize("size", [0, -1, 10**9])
def test_a_batch_has_a_size(images, dataset, tmp_path, size):
    with pytest.raises(DataError, match=f"expected 1 to 4,096 images per batch, found {size}"):
        describe(Means(SMALL), images, batch_size=size)
    with pytest.raises(DataError, match=f"found {size}"):
        embed_split(Means(SMALL), dataset, "index", tmp_path / "out", batch_size=size)


@pytest.fixture
def dataset(images, tmp_path) -> Gldv2:
    """An index split of 7 images."""
    ids = [f"{number:016x}" for number in range(len(images))]
    (tmp_path / "index.csv").write_text("\n".join(["id", *ids]) + "\n", encoding="utf-8")
    found = Gldv2(tmp_path)
    for image_id, image in zip(ids, images, strict=True):
        path = found.image_path("index", image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, format="PNG")
    return found


class Stopped(Means):
    """Ends as Ctrl-C does, after some batches."""

    def __init__(self, batches: int) -> None:
        super().__init__(SMALL)
        self.left = batches

    def __call__(self, batch):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__call__(batch)


def assert_equal(one: Path, other: Path) -> None:
    """To the bit, but for the order of the header, which safetensors leaves to chance."""
    found, expected = Embeddings.load(one), Embeddings.load(other)
    assert (found.ids, found.source) == (expected.ids, expected.source)
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)


def test_an_interrupted_embedding_continues_and_ends_as_an_unbroken_one(dataset, tmp_path, capsys):
    embed_split(Means(SMALL), dataset, "index", tmp_path / "unbroken", batch_size=1)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(3), dataset, "index", out, batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(2), dataset, "index", out, batch_size=1)
    assert not out.exists() and (tmp_path / ".out.parts").is_dir()
    assert "5 of 7 images are done: the same command continues there" in capsys.readouterr().err
    last = Means(SMALL)
    embed_split(last, dataset, "index", out, batch_size=1)
    assert len(last.sizes) == 2
    assert "continuing after 5 of 7 images" in capsys.readouterr().err
    assert_equal(out, tmp_path / "unbroken")
    assert not (tmp_path / ".out.parts").exists()


def test_a_killed_embedding_continues_at_its_last_part(dataset, tmp_path, monkeypatch):
    """What SIGKILL leaves: the parts that were written in time, and nothing that ends a `with`."""
    monkeypatch.setattr("retrieval.parts.PART_SECONDS", 0)
    monkeypatch.setattr("retrieval.parts.PART_SHARE", 0)
    monkeypatch.setattr("retrieval.parts.Parts.__exit__", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(2), dataset, "index", tmp_path / "out", batch_size=2)
    monkeypatch.undo()
    last = Means(SMALL)
    embed_split(last, dataset, "index", tmp_path / "out", batch_size=2)
    assert last.sizes == [2, 1]
    embed_split(Means(SMALL), dataset, "index", tmp_path / "unbroken", batch_size=2)
    assert_equal(tmp_path / "out", tmp_path / "unbroken")


def test_images_in_tars_are_embedded_in_place(dataset, tmp_path):
    expected = embed_split(Means(SMALL), dataset, "index", tmp_path / "of the files", batch_size=2)
    tars = tmp_path / "tars"
    (tars / "index").mkdir(parents=True)
    (tars / "index.csv").write_bytes((tmp_path / "index.csv").read_bytes())
    with tarfile.open(tars / "index" / "images_000.tar", "w") as tar:
        tar.add(tmp_path / "index", "index")
    found = embed_split(Means(SMALL), Gldv2(tars), "index", tmp_path / "of the tars", batch_size=2)
    assert (found.ids, found.source) == (expected.ids, expected.source)
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)
    (tars / "index.csv").write_text("id\nffffffffffffffff\n", encoding="utf-8")
    with pytest.raises(UnreadableImageError, match=r"\*\.tar:ffffffffffffffff\.jpg: no such member"):
        embed_split(Means(SMALL), Gldv2(tars), "index", tmp_path / "missing", batch_size=2)


@pytest.mark.parametrize(
    "changed", ["model", "batch", "an image", "an image of the same size", "damaged", "others", "another command's"]
)
def test_parts_of_something_else_are_not_used(dataset, tmp_path, changed):
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(5), dataset, "index", tmp_path / "out", batch_size=1)
    second = Means(SMALL)
    path, part = dataset.image_path("index", f"{0:016x}"), tmp_path / ".out.parts" / "000000.safetensors"
    if changed == "model":
        second.source = {"model": "others"}
    elif changed == "an image":
        path.write_bytes(path.read_bytes() + b"\0")
    elif changed == "an image of the same size":
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(0, 10**18))
    elif changed == "damaged":
        part.write_bytes(b"damaged")
    elif changed == "others":
        Embeddings(("another",), np.ones((1, 3), np.float32), {}).save(part)
    elif changed == "another command's":
        found = Embeddings.load(part)
        Embeddings(found.ids, found.descriptors, {"sha256": "of others"}).save(part)
    embed_split(second, dataset, "index", tmp_path / "out", batch_size=3 if changed == "batch" else 1)
    assert sum(second.sizes) == 7


class Spoilt(Means):
    """Describes every image but the first few by one value."""

    def __init__(self, value: float) -> None:
        super().__init__(SMALL)
        self.value = value

    def __call__(self, batch):
        rows = super().__call__(batch)
        return rows if len(self.sizes) < 3 else np.full_like(rows, self.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_a_descriptor_that_is_no_descriptor_stops_the_loop_with_the_images_name(dataset, tmp_path, value):
    with pytest.raises(DataError, match=f"first in '{2:016x}'"):
        embed_split(Spoilt(value), dataset, "index", tmp_path / "out", batch_size=1)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="first in 2"):
        describe(Spoilt(value), [np.ones((9, 9, 3), np.uint8)] * 4, batch_size=1)


def test_an_output_that_cannot_be_written_is_found_before_the_work(dataset, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    describer = Means(SMALL)
    for out, expected in (("folder", "folder is a folder"), ("file/out", "file/out could not be written")):
        with pytest.raises(OutputError, match=expected) as caught:
            embed_split(describer, dataset, "index", tmp_path / out)
        assert ".parts" not in str(caught.value)
    assert not describer.sizes


def test_a_disk_without_room_is_found_after_the_first_batch(dataset, tmp_path, monkeypatch):
    describer = Means(SMALL)
    monkeypatch.setattr("zoo.disk._free", lambda _: 0)
    with pytest.raises(OutputError, match="out needs at least .* bytes are free"):
        embed_split(describer, dataset, "index", tmp_path / "out", batch_size=1)
    assert describer.sizes == [1]


def test_a_split_without_a_readable_image_is_an_error(dataset, tmp_path):
    (dataset.root / "index.csv").write_text("id\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"index\.csv names 0 images, and none of them is readable"):
        embed_split(Means(SMALL), dataset, "index", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 cut off", "cannot be read"),
        ({"a": np.ones((2, 9, 9, 3))}, "'a' is float64"),
        ({"a": np.ones((9, 9, 3), np.float32)}, r"'a' is float32 \[9, 9, 3\]"),
        ({"a": np.array([None])}, "'a' cannot be read"),
        (np.ones(3), "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_pixels_that_are_no_batches(tmp_path, content, expected):
    path = tmp_path / "pixels.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        with open(path, "wb") as file:
            np.save(file, content)
    with pytest.raises(DataError, match=rf"pixels\.npz.*{expected}"):
        describe_pixels(Means(SMALL), path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
