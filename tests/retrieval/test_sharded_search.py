"""A search in parts merges to the ranking of the whole, and only what belongs together merges."""

import dataclasses

import numpy as np
import pytest

from retrieval.embeddings import squared_norms
from retrieval.search import search
from retrieval.shard import Shard
from retrieval.sharded import merge, read_part, search_part, shard_rows, write_part
from retrieval.store import Selection
from zoo.errors import DataError
from zoo.tensors import write_tensors


def rows_of(n: int, seed: int, prefix: str, unreadable: tuple[int, ...] = ()) -> Selection:
    """Small integers, so that many distances are equal, as float16."""
    descriptors = np.random.default_rng(seed).integers(1, 4, (n, 5)).astype(np.float16)
    norms = squared_norms(descriptors)
    descriptors[list(unreadable)], norms[list(unreadable)] = 0, np.inf
    return Selection([f"{prefix}{row}" for row in range(n)], descriptors, norms, {"model": "m"})


INDEX, QUERIES = rows_of(230, 0, "i", (0, 5, *range(115, 150))), rows_of(9, 1, "q")


def parts_of(shards: int, k: int = 20, index: Selection = INDEX, queries: Selection = QUERIES) -> list:
    return [search_part(index, queries, k, shard_rows(len(index.ids), Shard(shard, shards))) for shard in range(shards)]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 100, 230])
def test_merged_parts_equal_one_search(shards):
    """With 100 and more parts, some hold no readable image, and all hold fewer than k."""
    whole, merged = search(INDEX, QUERIES, 20), merge(parts_of(shards)[::-1], INDEX, QUERIES)
    assert (merged.rows == whole.rows).all() and (merged.distances == whole.distances).all()
    assert merged.rows.dtype == np.int32 and merged.distances.dtype == np.float32
    assert list(merged.hits) == list(whole.hits) and merged.query_ids == QUERIES.ids


def test_fewer_images_than_neighbours():
    merged = merge(parts_of(3, k=1000), INDEX, QUERIES)
    assert merged.rows.shape == (9, 193)
    assert (merged.rows == search(INDEX, QUERIES, 1000).rows).all()


def test_shards_are_contiguous_and_of_one_size():
    for images, shards in ((10, 3), (7, 7), (100, 9), (3, 5)):
        rows = [shard_rows(images, Shard(shard, shards)) for shard in range(shards)]
        assert [row for part in rows for row in part] == list(range(images))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_file_keeps_a_part(tmp_path):
    part = parts_of(2)[1]
    write_part(tmp_path / "part", part)
    read = read_part(tmp_path / "part")
    assert read.searched == part.searched
    assert (read.rows == part.rows).all() and (read.distances == part.distances).all()


def test_parts_of_something_else_are_refused():
    parts = parts_of(3)
    other_ids = dataclasses.replace(INDEX, ids=[f"j{row}" for row in range(230)])
    with pytest.raises(
        DataError, match="rows 0 to 76 was searched in another index: its fingerprint is .* and that of --index"
    ):
        merge(parts, other_ids, QUERIES)
    with pytest.raises(DataError, match="another index"):
        merge(parts, dataclasses.replace(INDEX, squared_norms=INDEX.squared_norms + 1), QUERIES)
    with pytest.raises(DataError, match="another queries"):
        merge(parts, INDEX, dataclasses.replace(QUERIES, source={"model": "n"}))
    with pytest.raises(DataError, match="20 and 21 neighbours"):
        merge([parts[0], *parts_of(3, k=21)[1:]], INDEX, QUERIES)


def test_each_part_is_there_once():
    parts = parts_of(3)
    with pytest.raises(DataError, match="rows 76 to 153 are missing"):
        merge([parts[0], parts[2]], INDEX, QUERIES)
    with pytest.raises(DataError, match="rows 153 to 230 are missing"):
        merge(parts[:2], INDEX, QUERIES)
    with pytest.raises(DataError, match="rows 0 to 76 are there twice"):
        merge([parts[0], *parts], INDEX, QUERIES)
    with pytest.raises(DataError, match="found none"):
        merge([], INDEX, QUERIES)


def test_damaged_files_are_refused(tmp_path):
    part = parts_of(2)[1]
    wrong = {
        "rows from 115 to 230": {"rows": part.rows - 100},
        "finite distances in ascending order": {"distances": part.distances[:, ::-1].copy()},
        "expected rows int64": {"rows": part.rows.astype(np.float64)},
        "contradict its header": {"rows": np.repeat(part.rows, 2, 1), "distances": np.repeat(part.distances, 2, 1)},
    }
    for message, changed in wrong.items():
        write_part(tmp_path / "part", dataclasses.replace(part, **changed))
        with pytest.raises(DataError, match=f"is not the result of a search: .*{message}"):
            read_part(tmp_path / "part")
    for header in ({"format": "another"}, {"format": "landmark-zoo search part 1", "searched": "{}"}):
        write_tensors(tmp_path / "part", {"rows": part.rows, "distances": part.distances}, header)
        with pytest.raises(DataError, match="Make it again with `landmark-zoo search --shard`"):
            read_part(tmp_path / "part")
