"""Embeddings on disk: a bit-exact round trip, and every way in which a file or its parts can be wrong."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrieval.embeddings import FORMAT, OLD_FORMAT, Embeddings, concatenate
from zoo.errors import DataError, OutputError
from zoo.tensors import read_header, write_tensors

SOURCE = {"model": "resnet18", "framework": "torch", "image_size": 96}


def embeddings(n: int = 5, dimension: int = 3, seed: int = 0, **source) -> Embeddings:
    values = np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)
    return Embeddings(tuple(f"{row:016x}" for row in range(n)), values, SOURCE | source)


def test_round_trip_keeps_everything(tmp_path):
    written = embeddings()
    written.save(tmp_path / "deep" / "index.safetensors")
    read = Embeddings.load(tmp_path / "deep" / "index.safetensors")
    assert (read.ids, read.source) == (written.ids, written.source)
    assert read.descriptors.dtype == np.float32
    np.testing.assert_array_equal(read.descriptors, written.descriptors)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["index.safetensors"]


def test_files_of_the_first_format_are_read(tmp_path):
    written = embeddings()
    header = {"format": OLD_FORMAT, "ids": json.dumps(written.ids), "source": json.dumps(written.source)}
    save_file({"descriptors": written.descriptors}, tmp_path / "old", header)
    read = Embeddings.load(tmp_path / "old")
    assert (read.ids, read.source) == (written.ids, written.source)
    np.testing.assert_array_equal(read.descriptors, written.descriptors)
    for ids in ("[1", json.dumps(written.ids[:-1])):
        save_file({"descriptors": written.descriptors}, tmp_path / "bad", header | {"ids": ids})
        with pytest.raises(DataError, match="not a usable embeddings file"):
            Embeddings.load(tmp_path / "bad")


def test_ids_of_any_script_and_no_images_at_all_survive(tmp_path):
    Embeddings(("塔", 'a"b'), np.ones((2, 1), np.float32), {}).save(tmp_path / "a")
    assert Embeddings.load(tmp_path / "a").ids == ("塔", 'a"b')
    Embeddings((), np.ones((0, 4), np.float32), {}).save(tmp_path / "b")
    assert Embeddings.load(tmp_path / "b").descriptors.shape == (0, 4)


def test_a_view_that_is_not_contiguous_is_stored_as_it_reads(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    Embeddings(("a", "b", "c"), values, {}).save(tmp_path / "view")
    np.testing.assert_array_equal(Embeddings.load(tmp_path / "view").descriptors, values)


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (("a", "b"), np.ones((3, 2), np.float32), "2 ids and 3 descriptors"),
        (("a", "a"), np.ones((2, 2), np.float32), "'a' twice"),
        (("a", "b c"), np.ones((2, 2), np.float32), "'b c'"),
        (("a", ""), np.ones((2, 2), np.float32), "found ''"),
        (("a", 7), np.ones((2, 2), np.float32), "found 7"),
        (("a", "b"), np.ones((2, 2), np.float64), "float64"),
        (("a", "b"), np.ones(2, np.float32), r"float32 \[2\]"),
        (("a", "b"), np.array([[1, 2], [np.nan, 1]], np.float32), "1 of them, first in 'b'"),
        (("a", "b"), np.array([[1, np.inf], [np.nan, 1]], np.float32), "2 of them, first in 'a'"),
        (("a", "b"), np.array([[1, 2], [0, 0]], np.float32), "zeros only in 1 of them, first in 'b'"),
        (("a", "\ud800"), np.ones((2, 2), np.float32), r"found '\\ud800'"),
    ],
)
def test_refuses_parts_that_do_not_fit(ids, values, message):
    with pytest.raises(DataError, match=message):
        Embeddings(ids, values, {})


def test_refuses_a_source_that_json_cannot_hold(tmp_path):
    with pytest.raises(DataError, match="must be JSON"):
        Embeddings(("a",), np.ones((1, 1), np.float32), {"model": object()}).save(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_refuses_files_that_are_something_else(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(DataError, match="file does not exist.*python -m export.embed"):
        Embeddings.load(path)
    path.write_bytes(b"id,images\n")
    with pytest.raises(DataError, match="not a readable safetensors file.*python -m export.embed"):
        Embeddings.load(path)
    save_file({"descriptors": np.ones((1, 1), np.float32)}, path)
    with pytest.raises(DataError, match="expected the format 'landmark-zoo embeddings 2', found None"):
        Embeddings.load(path)
    with pytest.raises(DataError):
        Embeddings.load(tmp_path)


@pytest.mark.parametrize("ids", [b"a\n", b"a\na\n", b"a\nb c\n", b"a\n\xff\n", b"", b"a\nb"])
def test_refuses_a_file_whose_ids_do_not_fit(tmp_path, ids):
    header = {"format": "landmark-zoo embeddings 2", "source": "{}"}
    tensors = {"descriptors": np.ones((2, 1), np.float32), "ids": np.frombuffer(ids, np.uint8)}
    save_file(tensors, tmp_path / "file", header)
    with pytest.raises(DataError, match="file is not a usable embeddings file"):
        Embeddings.load(tmp_path / "file")


def test_the_header_does_not_grow_with_the_ids(tmp_path):
    """safetensors refuses a header of more than 100 MB, which about four million ids would fill."""
    for count in (1, 100_000):
        embeddings(count, dimension=1).save(tmp_path / "file")
        assert sum(map(len, read_header(tmp_path / "file").values())) < 200
        assert Embeddings.load(tmp_path / "file").ids == tuple(f"{row:016x}" for row in range(count))


def test_a_cut_file_is_refused(tmp_path):
    embeddings().save(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[:-4])
    with pytest.raises(DataError, match="not a readable safetensors file"):
        Embeddings.load(tmp_path / "file")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder is a folder; expected a file"):
        embeddings().save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_concatenate_puts_columns_side_by_side():
    first, second = embeddings(dimension=2), embeddings(dimension=3, seed=1, model="resnest50")
    both = concatenate([first, second])
    assert both.ids == first.ids
    assert both.descriptors.dtype == np.float32
    np.testing.assert_array_equal(both.descriptors[:, :2], first.descriptors)
    np.testing.assert_array_equal(both.descriptors[:, 2:], second.descriptors)
    assert both.source == {"members": [first.source, second.source]}


def test_concatenate_refuses_other_ids_or_another_order():
    first = embeddings(2)
    swapped = Embeddings(first.ids[::-1], first.descriptors, {})
    with pytest.raises(DataError, match=r"row 0 is '0{16}' in embeddings 1 and '0{15}1' in embeddings 2"):
        concatenate([first, first, swapped])
    with pytest.raises(DataError, match="2 images and embeddings 1 3"):
        concatenate([first, embeddings(3)])
    with pytest.raises(DataError, match="at least one"):
        concatenate([])


@pytest.mark.parametrize(
    "source", [{"a": float("nan")}, {"a": {1}}, {"a": "\ud800"}, {"a": [[[]]] * 3, "b": float("inf")}]
)
def test_a_source_that_could_not_be_read_again_is_not_written(tmp_path, source):
    with pytest.raises(DataError, match=r"e\.safetensors must be JSON values"):
        Embeddings(("a",), np.ones((1, 2), np.float32), source).save(tmp_path / "e.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "ids",
    [np.frombuffer(b"a\nb\n", np.int8), np.frombuffer(b"a\nb\n", np.uint8)[None], np.frombuffer(b"a\nb\nc", np.uint8)],
)
def test_ids_of_another_layout_are_refused(tmp_path, ids):
    tensors = {"descriptors": np.ones((2, 2), np.float32), "ids": ids}
    write_tensors(tmp_path / "e", tensors, {"format": FORMAT, "source": "{}"})
    with pytest.raises(DataError, match="expected (ids as uint8|a line feed)"):
        Embeddings.load(tmp_path / "e")
