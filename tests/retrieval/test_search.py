"""The ranking compared with numpy in float64, ties, and the command line from embeddings to figures."""

import json
import subprocess
import sys

import numpy as np
import pytest

from retrieval.embeddings import Embeddings
from retrieval.metrics import score
from retrieval.ranking import write_predictions
from retrieval.search import search
from retrieval.solution import read_retrieval_predictions, read_retrieval_solution
from zoo.errors import DataError


def embeddings(values: np.ndarray, prefix: str) -> Embeddings:
    return Embeddings(tuple(f"{prefix}{row}" for row in range(len(values))), values.astype(np.float32), {})


def brute_force(index: Embeddings, queries: Embeddings, k: int) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Every distance as ‖x - y‖ in float64; a stable sort keeps the index's order for ties."""
    difference = queries.descriptors.astype(np.float64)[:, None] - index.descriptors.astype(np.float64)[None]
    distances = np.sqrt(np.sum(difference**2, axis=2))
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return [tuple(index.ids[place] for place in row) for row in order], np.take_along_axis(distances, order, axis=1)


@pytest.mark.parametrize(
    ("n", "q", "dimension", "k"), [(1, 1, 1, 1), (50, 3, 8, 10), (900, 40, 64, 100), (300, 25, 7, 100)]
)
def test_equals_brute_force(n, q, dimension, k):
    rng = np.random.default_rng(n)
    index, queries = (embeddings(rng.normal(size=(rows, dimension)), name) for rows, name in ((n, "i"), (q, "q")))
    ranking = search(index, queries, k)
    hits, distances = brute_force(index, queries, k)
    assert list(ranking.hits) == hits
    assert ranking.query_ids == queries.ids
    assert ranking.distances.dtype == np.float32
    # Only the final rounding to float32 remains: half a unit in the last place, 6e-8.
    np.testing.assert_allclose(ranking.distances, distances, rtol=1e-7, atol=0)


def test_near_duplicates_are_ranked_as_in_float64():
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(1, 512))
    index = embeddings(centre + 1e-5 * rng.normal(size=(700, 512)), "i")
    queries = embeddings(centre + 1e-5 * rng.normal(size=(30, 512)), "q")
    ranking = search(index, queries, 50)
    hits, distances = brute_force(index, queries, 50)
    assert list(ranking.hits) == hits
    np.testing.assert_allclose(ranking.distances, distances, rtol=1e-7, atol=0)


def test_an_image_is_at_distance_zero_from_itself():
    index = embeddings(np.random.default_rng(2).normal(size=(200, 256)), "i")
    ranking = search(index, index, 1)
    assert [hits[0] for hits in ranking.hits] == list(index.ids)
    assert not ranking.distances.any()


@pytest.mark.parametrize("k", [1, 5, 100, 130])
@pytest.mark.parametrize("value", [0.3, 0.7])
def test_equal_distances_keep_the_order_of_the_index(k, value):
    index, queries = embeddings(np.full((500, 4), value), "i"), embeddings(np.full((25, 4), value), "q")
    assert set(search(index, queries, k).hits) == {index.ids[:k]}


def test_ties_in_small_integers_equal_brute_force():
    rng = np.random.default_rng(3)
    index, queries = (embeddings(rng.integers(1, 4, size=(n, 3)), name) for n, name in ((400, "i"), (30, "q")))
    assert list(search(index, queries, 20).hits) == brute_force(index, queries, 20)[0]


def test_a_small_index_gives_short_lists():
    ranking = search(embeddings(np.eye(3), "i"), embeddings(np.eye(3), "q"))
    assert ranking.distances.shape == (3, 3)
    assert ranking.hits[1] == ("i1", "i0", "i2")


def test_refuses_what_cannot_be_searched():
    two, three = embeddings(np.ones((2, 2)), "i"), embeddings(np.ones((2, 3)), "q")
    with pytest.raises(DataError, match="2-D descriptors and the queries 3-D"):
        search(two, three)
    with pytest.raises(DataError, match="0 in the index"):
        search(embeddings(np.ones((0, 3)), "i"), three)
    with pytest.raises(DataError, match="0 queries"):
        search(three, embeddings(np.ones((0, 3)), "q"))
    with pytest.raises(DataError, match="overflow"):
        search(two, embeddings(np.full((2, 2), 3e38), "q"))


SOLUTION = "id,images,Usage\nq0,i0,Public\nq1,i0,Public\nq2,i2 i1,Private\nq3,None,Ignored\n"


def stage(folder, solution: str = SOLUTION) -> list[str]:
    """Four queries on a line at 1, 2, 3 and 4 and three index images at 1, 2 and 3; returns the command's arguments."""
    embeddings(1 + np.arange(3.0)[:, None], "i").save(folder / "index.safetensors")
    embeddings(1 + np.arange(4.0)[:, None], "q").save(folder / "test.safetensors")
    (folder / "retrieval_solution_v2.1.csv").write_text(solution)
    names = {"--index": "index.safetensors", "--queries": "test.safetensors", "--data": ".", "--out": "out.csv"}
    return [part for option, name in names.items() for part in (option, str(folder / name))]


def command(arguments: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "retrieval.search", *arguments], capture_output=True, text=True)


def test_figures_of_a_ranking(tmp_path):
    stage(tmp_path)
    index, queries = (Embeddings.load(tmp_path / f"{name}.safetensors") for name in ("index", "test"))
    write_predictions(tmp_path / "out.csv", search(index, queries))
    assert (tmp_path / "out.csv").read_text() == "id,images\nq0,i0 i1 i2\nq1,i1 i0 i2\nq2,i2 i1 i0\nq3,i2 i1 i0\n"
    solution = read_retrieval_solution(tmp_path / "retrieval_solution_v2.1.csv")
    assert score(read_retrieval_predictions(tmp_path / "out.csv", solution), solution) == pytest.approx(
        {
            "map100_public": 0.75,
            "map100_private": 1.0,
            "map100_all": 2.5 / 3,
            "precision_1": 2 / 3,
            "precision_10": 0.4 / 3,
            "median_position": 1.0,
        }
    )


def test_command_prints_the_path_last_and_figures_on_stderr(tmp_path):
    done = command(stage(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out.csv'}\n"
    assert "map100_public  0.75" in done.stderr


def test_command_prints_one_json_object(tmp_path):
    done = command(
        [*stage(tmp_path, "id,images,Usage\nq0,i0,Public\nq1,i0,Ignored\nq2,,Ignored\nq3,,Ignored\n"), "--json"]
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["path"] == str(tmp_path / "out.csv")
    assert (figures["map100_public"], figures["map100_private"], figures["map100_all"]) == (1, None, 1)


def test_command_reports_a_query_that_the_solution_does_not_know(tmp_path):
    done = command(stage(tmp_path, "id,images,Usage\nq0,i0,Public\n"))
    assert done.returncode == 2
    assert done.stderr.endswith("Embed that split, or search without a solution.\n") and "'q1'" in done.stderr
    assert done.stdout == ""


def test_command_without_a_solution_writes_the_neighbours_only(tmp_path):
    words = stage(tmp_path)
    place = words.index("--data")
    done = command(words[:place] + words[place + 2 :])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out.csv'}\n"
    assert "map100" not in done.stderr


def test_relevant_images_that_were_not_searched_are_an_error_unless_they_are_unreadable(tmp_path):
    words = stage(tmp_path, "id,images,Usage\nq0,i0 gone,Public\nq1,i0,Ignored\nq2,,Ignored\nq3,,Ignored\n")
    done = command(words)
    assert done.returncode == 2
    assert "1 of 2 relevant images" in done.stderr and "first 'gone'" in done.stderr
    (tmp_path / "unreadable.csv").write_text("split,id,reason\nindex,gone,no such file\n")
    done = command(words)
    assert done.returncode == 0, done.stderr
    assert "1 relevant images are unreadable" in done.stderr


@pytest.mark.parametrize("k", [0, -3])
def test_a_ranking_has_at_least_one_neighbour(k):
    both = Embeddings(("a",), np.ones((1, 4), np.float32), {})
    with pytest.raises(DataError, match=f"at least 1 neighbour per query, found {k}"):
        search(both, both, k)
