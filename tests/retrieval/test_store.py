"""Stores: what their files must be, and every way in which one can be wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.ids import Ids
from retrieval.ranking import Ranking, write_predictions
from retrieval.store import Store, chosen, columns, in_memory, open_rows
from retrieval.store_writer import ChunkWriter, complete, make_store
from zoo.errors import DataError, OutputError

IDS = ("塔", "b", "c", 'a"d', "e")
VALUES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def make(folder: Path, chunks: tuple[int, ...] = (0, 1, 2), dtype="float16", unreadable: tuple[int, ...] = ()) -> Path:
    """A store of five rows in chunks of two."""
    make_store(folder, IDS, 3, {"model": "m"}, "times", batch=1, chunk=2, dtype=dtype)
    with ChunkWriter(folder, "0-of-1") as writer:
        for chunk in chunks:
            rows = writer.manifest.rows_of(chunk)
            readable = np.array([row not in unreadable for row in rows])
            names = [IDS[row] for row in rows]
            writer.write(rows.start, VALUES[rows], names, readable)
            writer.finish(chunk, {IDS[row]: "why" for row in rows if row in unreadable})
    complete(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_round_trip(tmp_path, dtype):
    store = Store.open(make(tmp_path / "store", dtype=dtype, unreadable=(3,)))
    assert tuple(store.ids) == IDS and store.ids[-1] == "e" and store.ids[1:3] == IDS[1:3]
    kept = [0, 1, 2, 4]
    np.testing.assert_array_equal(store.rows[kept], VALUES[kept].astype(dtype))
    assert not store.rows[3].any() and np.isinf(store.squared_norms[3])
    np.testing.assert_array_equal(store.squared_norms[kept], (store.rows[kept].astype(float) ** 2).sum(1))
    assert isinstance(store.rows, np.memmap)
    assert store.unreadable == {'a"d': "why"}
    memory = in_memory(open_rows(tmp_path / "store"))
    assert memory.ids == tuple(IDS[row] for row in kept) and memory.descriptors.dtype == np.float32


def test_rows_begin_at_a_page(tmp_path):
    """So that two hosts never write into one page of a network disk if a chunk is a multiple of a page."""
    found = Store.open(make(tmp_path / "store")).rows
    assert isinstance(found, np.memmap) and found.offset == 4096


def test_a_file_of_embeddings_has_the_same_attributes(tmp_path):
    Embeddings(IDS, VALUES, {"model": "m"}).save(tmp_path / "e.safetensors")
    rows = open_rows(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(rows.rows, VALUES)
    np.testing.assert_allclose(rows.squared_norms, (VALUES.astype(float) ** 2).sum(1), rtol=1e-15)


def test_parts_of_a_store(tmp_path):
    store = Store.open(make(tmp_path / "store", unreadable=(1,)))
    some = chosen(store, np.array([4, 0]))
    assert some.ids == ("e", "塔")
    np.testing.assert_array_equal(some.rows, store.rows[[4, 0]])
    part = columns(store, 1, 3)
    np.testing.assert_array_equal(part.rows, store.rows[:, 1:3])
    np.testing.assert_array_equal(np.isinf(part.squared_norms), np.isinf(store.squared_norms))
    assert part.squared_norms[0] == pytest.approx((VALUES[0, 1:].astype(np.float16).astype(float) ** 2).sum())


def test_an_unfinished_store_says_what_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"store is not finished: 2 of its 3 chunks are missing.*continues"):
        Store.open(make(tmp_path / "store", chunks=(1,)))


def rewrite(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


DAMAGES = {
    "no manifest": (lambda s: (s / "store.json").unlink(), "is not a store: it holds no store.json"),
    "another format": (lambda s: rewrite(s / "store.json", format="another"), "expected the format"),
    "unknown key": (lambda s: rewrite(s / "store.json", extra=1), "not a readable manifest"),
    "no chunk": (lambda s: rewrite(s / "store.json", chunk=0), "not a readable manifest"),
    "a million million rows": (lambda s: rewrite(s / "store.json", images=10**12), "not a readable manifest"),
    "more rows": (lambda s: rewrite(s / "store.json", images=6), "not the list that the store was made with"),
    "another dtype": (lambda s: rewrite(s / "store.json", dtype="float32"), "expected float32"),
    "another length": (lambda s: rewrite(s / "store.json", dimensions=4), r"expected float16 \[5, 4\]"),
    "no ids": (lambda s: (s / "ids.txt").unlink(), "ids.txt cannot be read"),
    "other ids": (lambda s: (s / "ids.txt").write_text("a\nb\nc\nd\ne\n"), "not the list"),
    "ids cut off": (lambda s: (s / "ids.txt").write_bytes(b"a\nb"), "expected a line feed"),
    "ids that are no text": (lambda s: (s / "ids.txt").write_bytes(b"\xff\n"), "UTF-8"),
    "rows cut off": (lambda s: (s / "rows.npy").write_bytes((s / "rows.npy").read_bytes()[:-1]), "cannot be read"),
    "no rows": (lambda s: (s / "rows.npy").write_bytes(b""), "cannot be read"),
    "pickled rows": (lambda s: np.save(s / "rows.npy", np.array([print, print]), allow_pickle=True), "cannot be read"),
    "a norm of 0": (lambda s: np.save(s / "squared_norms.npy", np.zeros(5)), "expected positive"),
    "a norm that is NaN": (lambda s: np.save(s / "squared_norms.npy", np.full(5, np.nan)), "expected positive"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_refused(tmp_path, damage):
    spoil, expected = DAMAGES[damage]
    store = make(tmp_path / "store")
    spoil(store)
    with pytest.raises(DataError, match=expected):
        Store.open(store)


def test_what_is_no_store(tmp_path):
    for path, expected in ((tmp_path / "none", "does not exist"), (tmp_path, "is not a store")):
        with pytest.raises(DataError, match=expected):
            Store.open(path)


@pytest.mark.parametrize(
    "lines", [b"[]\n", b"{}\n", b'{"chunk": -1}\n', b'{"chunk": 3}\n', b"\xff\xff\n", b"[" * 10**5 + b"\n"]
)
def test_a_line_of_a_log_that_is_no_chunk_does_not_count(tmp_path, lines):
    store = make(tmp_path / "store", chunks=(0, 1))
    with open(store / "chunks" / "0-of-1.jsonl", "ab") as log:
        log.write(lines)
    with pytest.raises(DataError, match="1 of its 3 chunks"):
        Store.open(store)


def test_the_files_have_the_modes_that_the_user_wants(tmp_path):
    """Another user's process may read a store, and a group may fill it together."""
    (tmp_path / "plain").touch()
    mode = (tmp_path / "plain").stat().st_mode & 0o777
    store = make(tmp_path / "store")
    assert {path.stat().st_mode & 0o777 for path in store.rglob("*") if path.is_file()} == {mode}


def test_the_same_store_is_made_once(tmp_path):
    make(tmp_path / "store")
    before = (tmp_path / "store" / "rows.npy").stat().st_ino
    make(tmp_path / "store", chunks=())
    assert (tmp_path / "store" / "rows.npy").stat().st_ino == before
    with pytest.raises(OutputError, match="of something else: dtype float16 and float32"):
        make(tmp_path / "store", dtype="float32")


@pytest.mark.parametrize("ids", [("a", "a"), ("a b",), ("",), ("a\n",), ("\ud800",)])
def test_ids_are_different_words(tmp_path, ids):
    with pytest.raises(DataError, match="expected ids"):
        make_store(tmp_path / "store", ids, 3, {}, "", batch=1, chunk=1)
    assert not (tmp_path / "store").exists()


def test_millions_of_ids_take_little_more_than_their_characters():
    names = [f"{number:016x}" for number in range(10_000)]
    ids = Ids.of(names)
    assert list(ids) == names and ids[9_999] == names[-1] and ids[-1] == names[-1] and len(ids) == 10_000
    assert len(ids.text) == 17 * 10_000
    with pytest.raises(IndexError):
        ids[10_000]


def test_a_ranking_makes_ids_when_they_are_asked_for(tmp_path):
    rows, distances = np.array([[2, 0], [1, 2]], np.int32), np.zeros((2, 2), np.float32)
    ranking = Ranking(("q", "r"), Ids.of("abc"), rows, distances)
    assert list(ranking.hits) == [("c", "a"), ("b", "c")]
    write_predictions(tmp_path / "p.csv", ranking)
    assert (tmp_path / "p.csv").read_text(encoding="utf-8") == "id,images\nq,c a\nr,b c\n"


def test_a_source_with_tuples_is_the_same_when_it_is_read_again(tmp_path):
    first, again = (
        make_store(tmp_path / "store", IDS, 3, {"specs": [{"mean": (0.5, 0.4)}]}, "", batch=1, chunk=1)
        for _ in range(2)
    )
    assert first == again


def test_a_copied_store_is_the_same(tmp_path):
    shutil.copytree(make(tmp_path / "store"), tmp_path / "copy")
    np.testing.assert_array_equal(Store.open(tmp_path / "copy").rows, Store.open(tmp_path / "store").rows)
