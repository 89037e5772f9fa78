"""`landmark-zoo search` and `evaluate`, called as functions."""

import json
from pathlib import Path

import numpy as np
import pytest

from landmark_zoo.commands.retrieval import evaluate, search
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
