"""The embedding loop: order, batches, several resolutions, decoding ahead, and errors in threads."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import UnreadableImageError
from retrieval.describer import describe
from retrieval.embed import describe_pixels
from retrieval.embed_split import embed_split
from retrieval.image_batches import BATCHES_AHEAD, Resized, batches
from retrieval.shard import Shard
from retrieval.store import Store, in_memory
from retrieval.store_writer import ChunkWriter
from tests.retrieval.data.tars import as_tars
from zoo.errors import DataError, OutputError
from zoo.preprocess import resize
from zoo.processes import ROOT

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
    monkeypatch.setattr(
        "retrieval.image_batches.resize", lambda image, *_: decoded.append(threading.get_ident()) or image
    )
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


def files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    """A batch is a chunk."""
    monkeypatch.setattr("retrieval.embed_split.BATCHES_PER_CHUNK", 1)


def test_a_store_holds_what_the_model_says_in_the_order_of_the_table(dataset, images, tmp_path):
    store = embed_split(Means(SMALL), dataset, "index", tmp_path / "out", batch_size=2, dtype="float32")
    assert tuple(store.ids) == dataset.named_ids("index")
    np.testing.assert_array_equal(store.rows, describe(Means(SMALL), images, batch_size=2))
    assert store.source["model"] == "means"
    half = embed_split(Means(SMALL), dataset, "index", tmp_path / "half", batch_size=2)
    np.testing.assert_array_equal(half.rows, store.rows.astype(np.float16))
    np.testing.assert_array_equal(half.squared_norms, (half.rows.astype(np.float64) ** 2).sum(1))


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_embedding_continues_and_ends_as_an_unbroken_one(dataset, tmp_path, capsys):
    embed_split(Means(SMALL), dataset, "index", tmp_path / "unbroken", batch_size=1)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(1 + 3), dataset, "index", out, batch_size=1)
    with pytest.raises(DataError, match="out is not finished: 4 of its 7 chunks are missing"):
        Store.open(out)
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(1 + 2), dataset, "index", out, batch_size=1)
    last = Means(SMALL)
    embed_split(last, dataset, "index", out, batch_size=1)
    assert len(last.sizes) == 1 + 2, "one grey image for the length, and what was left"
    assert "continuing after 5 of 7 images" in capsys.readouterr().err
    assert files(out) == files(tmp_path / "unbroken")
    idle = Means(SMALL)
    embed_split(idle, dataset, "index", out, batch_size=1)
    assert len(idle.sizes) == 1, "a finished store is left alone"


@pytest.mark.usefixtures("small_chunks")
def test_half_a_line_of_a_log_is_an_unfinished_chunk(dataset, tmp_path):
    out = tmp_path / "out"
    embed_split(Means(SMALL), dataset, "index", out, batch_size=2)
    expected, log = files(out), out / "chunks" / "0-of-1.jsonl"
    (out / "complete.json").unlink()
    log.write_bytes(log.read_bytes()[:-9])
    last = Means(SMALL)
    embed_split(last, dataset, "index", out, batch_size=2)
    assert last.sizes == [1, 1], "the grey image, and the last chunk's image"
    assert files(out) == expected


@pytest.mark.usefixtures("small_chunks")
def test_shards_fill_one_store_together(dataset, tmp_path, capsys):
    embed_split(Means(SMALL), dataset, "index", tmp_path / "alone", batch_size=2)
    out = tmp_path / "out"
    for number in (2, 0):
        assert embed_split(Means(SMALL), dataset, "index", out, batch_size=2, shard=Shard(number, 3)) is None
    assert "1 of 4 chunks of" in capsys.readouterr().err
    store = embed_split(Means(SMALL), dataset, "index", out, batch_size=2, shard=Shard(1, 3))
    np.testing.assert_array_equal(store.rows, Store.open(tmp_path / "alone").rows)
    assert sorted(path.name for path in (out / "chunks").iterdir()) == [f"{n}-of-3.jsonl" for n in range(3)]


def test_one_process_per_shard(dataset, tmp_path):
    out = tmp_path / "out"
    embed_split(Means(SMALL), dataset, "index", out, batch_size=2, shard=Shard(0, 2))
    (out / "complete.json").unlink(missing_ok=True)
    with ChunkWriter(out, "0-of-1"):
        held = [sys.executable, "-c", HOLD, str(out)]
        done = subprocess.run(held, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert "another process" in done.stderr, done.stderr


HOLD = """import sys
from pathlib import Path
from retrieval.store_writer import ChunkWriter
with ChunkWriter(Path(sys.argv[1]), "0-of-1"): pass"""


@pytest.mark.parametrize(
    "text", ["", "1", "1/1", "2/2", "-1/2", "1/0", "a/2", "0/", "1.0/2", "0/100000000", "٠/٢", "9" * 5000 + "/2"]
)
def test_a_shard_is_one_of_several(text):
    with pytest.raises(DataError, match="expected i/n"):
        Shard.parse(text)


@pytest.mark.usefixtures("small_chunks")
def test_images_that_cannot_be_read_are_listed(dataset, tmp_path, capsys):
    expected = embed_split(Means(SMALL), dataset, "index", tmp_path / "whole", batch_size=2)
    bad = [f"{number:016x}" for number in (1, 4)]
    dataset.image_path("index", bad[0]).unlink()
    dataset.image_path("index", bad[1]).write_bytes(b"damaged")
    store = embed_split(Means(SMALL), dataset, "index", tmp_path / "out", batch_size=2)
    assert store.unreadable.keys() == set(bad) and store.unreadable[bad[0]] == "no such file"
    assert "2 of 7 images could not be read" in capsys.readouterr().err
    assert (store.path / "unreadable.csv").read_text(encoding="utf-8").splitlines()[:2] == [
        "id,reason",
        f"{bad[0]},no such file",
    ]
    np.testing.assert_array_equal(np.flatnonzero(np.isinf(store.squared_norms)), [1, 4])
    kept = [0, 2, 3, 5, 6]
    np.testing.assert_array_equal(store.rows[kept], expected.rows[kept])
    assert in_memory(store).ids == tuple(store.ids[place] for place in kept)


def test_a_data_set_without_images_is_an_error_and_not_a_list(dataset, tmp_path):
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(DataError, match=r"none of 7 images in a row can be read.*no such file.*mounted"):
        embed_split(Means(SMALL), dataset, "index", tmp_path / "out")
    with pytest.raises(DataError, match="not finished"):
        Store.open(tmp_path / "out")


def test_only_the_queries_that_count(dataset, tmp_path):
    ids = dataset.named_ids("index")
    (tmp_path / "test.csv").write_text("\n".join(["id", *ids[:3]]) + "\n", encoding="utf-8")
    (tmp_path / "index").rename(tmp_path / "test")
    rows = [f"{ids[0]},,Ignored", f"{ids[1]},{ids[5]},Public", f"{ids[2]},{ids[6]},Private"]
    dataset.solution_path.write_text("\n".join(["id,images,Usage", *rows]) + "\n", encoding="utf-8")
    store = embed_split(Means(SMALL), dataset, "test", tmp_path / "scored", only_scored=True)
    assert tuple(store.ids) == ids[1:3]
    with pytest.raises(DataError, match="scores none"):
        embed_split(Means(SMALL), dataset, "index", tmp_path / "no", only_scored=True)


def test_images_in_tars_are_embedded_in_place(dataset, tmp_path):
    expected = embed_split(Means(SMALL), dataset, "index", tmp_path / "of the files", batch_size=2)
    tars = as_tars(dataset.root, tmp_path / "tars")
    found = embed_split(Means(SMALL), Gldv2(tars), "index", tmp_path / "of the tars", batch_size=2)
    assert (tuple(found.ids), found.source) == (tuple(expected.ids), expected.source)
    np.testing.assert_array_equal(found.rows, expected.rows)
    (tars / "index.csv").write_text("id\nffffffffffffffff\n", encoding="utf-8")
    with pytest.raises(DataError, match="ffffffffffffffff.*no such member"):
        embed_split(Means(SMALL), Gldv2(tars), "index", tmp_path / "missing", batch_size=2)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ("model", "of something else: model means and model others"),
        ("batch", "of something else: batch 1 and 3"),
        ("dtype", "of something else: dtype float16 and float32"),
        ("an image", "of something else: other images"),
        ("an image of the same size", "an image was changed since"),
    ],
)
def test_a_store_of_something_else_is_not_continued(dataset, tmp_path, changed, why):
    with pytest.raises(KeyboardInterrupt):
        embed_split(Stopped(1 + 5), dataset, "index", tmp_path / "out", batch_size=1)
    second, options = Means(SMALL), {"batch_size": 3 if changed == "batch" else 1}
    options |= {"dtype": "float32"} if changed == "dtype" else {}
    path = dataset.image_path("index", f"{0:016x}")
    if changed == "model":
        second.source = {"model": "others"}
    elif changed == "an image":
        path.write_bytes(path.read_bytes() + b"\0")
    elif changed == "an image of the same size":
        os.utime(path, ns=(0, 10**18))
    with pytest.raises(OutputError, match=f"{why}.*--overwrite"):
        embed_split(second, dataset, "index", tmp_path / "out", **options)
    embed_split(second, dataset, "index", tmp_path / "out", overwrite=True, **options)
    assert sum(second.sizes) == 1 + 1 + 7, "two grey images, and all of the split"


class Spoilt(Means):
    """Describes every image but the first few by one value."""

    def __init__(self, value: float) -> None:
        super().__init__(SMALL)
        self.value = value

    def __call__(self, batch):
        rows = super().__call__(batch)
        return rows if len(self.sizes) < 4 else np.full_like(rows, self.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_a_descriptor_that_is_no_descriptor_stops_the_loop_with_the_images_name(dataset, tmp_path, value):
    with pytest.raises(DataError, match=f"first in '{2:016x}'"):
        embed_split(Spoilt(value), dataset, "index", tmp_path / "out", batch_size=1)
    with pytest.raises(DataError, match="not finished"):
        Store.open(tmp_path / "out")
    with pytest.raises(DataError, match="first in 3"):
        describe(Spoilt(value), [np.ones((9, 9, 3), np.uint8)] * 5, batch_size=1)


@pytest.mark.parametrize("value", [1e6, 1e-9])
def test_a_descriptor_that_float16_cannot_hold_says_so(dataset, tmp_path, value):
    with pytest.raises(DataError, match=r"does not fit into float16.*--dtype float32"):
        embed_split(Spoilt(value), dataset, "index", tmp_path / "out", batch_size=1)
    assert embed_split(Spoilt(value), dataset, "index", tmp_path / "deep", batch_size=1, dtype="float32")


def test_what_is_no_store_is_left_alone(dataset, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").touch()
    (tmp_path / "file").touch()
    for out, expected in (
        ("folder", "folder already contains 'thesis.txt'"),
        ("file", "file is a file"),
        ("file/out", "file/out could not be written"),
    ):
        with pytest.raises((OutputError, DataError), match=expected):
            embed_split(Means(SMALL), dataset, "index", tmp_path / out)
    assert (tmp_path / "folder" / "thesis.txt").exists()


def test_a_disk_without_room_is_found_before_the_work(dataset, tmp_path, monkeypatch):
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
