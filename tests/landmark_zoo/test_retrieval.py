"""`landmark-zoo search`, `evaluate` and `compare`, called as functions."""

import json
from pathlib import Path

import numpy as np
import pytest

from landmark_zoo.commands.retrieval import compare, evaluate, search
from retrieval.embeddings import Embeddings
from zoo.errors import DataError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Embeddings of an index and of two queries."""
    random = np.random.default_rng(0)
    made = {"index": [f"{number:016x}" for number in range(5)], "queries": [f"{number:016x}" for number in (8, 9)]}
    for name, ids in made.items():
        rows = random.normal(size=(len(ids), 4)).astype(np.float32)
        Embeddings(tuple(ids), rows, {"model": "m"}).save(tmp_path / name)
    return {name: tmp_path / name for name in made} | {"out": tmp_path / "out.csv"}


def solution(folder: Path, *relevant: int) -> None:
    text = "id,images,Usage\n"
    text += "".join(f"{query:016x},{image:016x},Public\n" for query, image in zip((8, 9), relevant, strict=True))
    (folder / "retrieval_solution_v2.1.csv").write_text(text, encoding="utf-8")


def test_neighbours_without_a_solution(files, capsys):
    search(**files)
    said = capsys.readouterr()
    assert said.out == f"{files['out']}\n" and "map100" not in said.err
    assert len(files["out"].read_text().splitlines()) == 3


def test_a_missing_solution_says_how_to_search_without(files, tmp_path):
    with pytest.raises(DataError, match=r"retrieval_solution_v2\.1\.csv does not exist.*search without --data"):
        search(**files, data=tmp_path)
    assert not files["out"].exists()


def test_a_solution_of_other_images_is_refused_before_the_search(files, tmp_path):
    solution(tmp_path, 1, 7)
    with pytest.raises(DataError, match=f"1 of 2 relevant images .* are not in the index, first '{7:016x}'"):
        search(**files, data=tmp_path)
    assert not files["out"].exists()


def test_a_solution_without_a_scored_query_is_refused_before_the_search(files, tmp_path):
    text = "id,images,Usage\n" + "".join(f"{query:016x},None,Ignored\n" for query in (8, 9))
    (tmp_path / "retrieval_solution_v2.1.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"scores no query.*search without --data"):
        search(**files, data=tmp_path)
    assert not files["out"].exists()


def test_predictions_are_scored_against_the_solution_of_their_index(files, tmp_path, capsys):
    solution(tmp_path, 1, 2)
    search(**files, data=tmp_path, as_json=True)
    first = json.loads(capsys.readouterr().out)
    (tmp_path / "index.csv").write_text("id\n" + "".join(f"{number:016x}\n" for number in range(5)))
    evaluate(files["out"], data=tmp_path, as_json=True)
    assert json.loads(capsys.readouterr().out) == first and first["map100_all"] > 0
    solution(tmp_path, 1, 7)
    with pytest.raises(DataError, match="1 of 2 relevant images .* are not in the index"):
        evaluate(files["out"], data=tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Predictions for 40 queries with one relevant image each: always first, and second for the first 30 of them."""
    queries = [f"q{number}" for number in range(40)]
    rows = "".join(f"{query},right{query},{'Public' if n % 3 else 'Private'}\n" for n, query in enumerate(queries))
    (tmp_path / "retrieval_solution_v2.1.csv").write_text(
        f"id,images,Usage\n{rows}other,None,Ignored\n", encoding="utf-8"
    )
    texts = (
        "".join(f"{query},right{query} wrong\n" for query in queries),
        "".join(f"{q},{f'wrong right{q}' if n < 30 else f'right{q} wrong'}\n" for n, q in enumerate(queries)),
    )
    for name, text in zip(("better.csv", "worse.csv"), texts, strict=True):
        (tmp_path / name).write_text(f"id,images\nother,wrong\n{text}", encoding="utf-8")
    return [tmp_path / "better.csv", tmp_path / "worse.csv"]


def test_a_difference_is_printed_with_its_interval_and_p(two, capsys):
    compare(*two, data=two[0].parent, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["map100"] == [1, 0.625] and found["difference"] == 0.375
    assert found["interval"][0] < 0.375 < found["interval"][1] and found["p"] < 0.001 and found["shown"]
    assert (found["queries"], found["better"], found["worse"]) == (40, 30, 0)
    compare(*two, data=two[0].parent)
    said = capsys.readouterr()
    assert said.out.startswith("+0.3750 (95 % interval +0.3") and said.out.endswith("p < .001: shown on 40 queries\n")
    assert "1.0000  mAP@100 of" in said.err and "better for 30 queries, worse for 0" in said.err


def test_the_same_predictions_twice_are_not_different(two, capsys):
    compare(two[0], two[0], data=two[0].parent)
    said = capsys.readouterr()
    assert said.out == "+0.0000 (95 % interval +0.0000 to +0.0000), p = 1: not shown on 40 queries\n"
    assert said.err.count("mAP@100 of") == 2
