"""The options of `landmark-zoo search`, and `merge`, called as functions."""

import json
from pathlib import Path

import numpy as np
import pytest

from landmark_zoo.commands.retrieval import merge, search
from retrieval.embeddings import Embeddings
from zoo.errors import DataError, SpecError

QUERIES = 12


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """An index, queries of which every third is scored, and the solution: each query's nearest image is right."""
    rng = np.random.default_rng(0)
    index = rng.normal(size=(300, 8)).astype(np.float32)
    queries = index[:QUERIES] + np.float32(1e-3)
    for name, rows in (("index", index), ("queries", queries)):
        Embeddings(tuple(f"{name[0]}{row}" for row in range(len(rows))), rows, {"model": "m"}).save(tmp_path / name)
    lines = [f"q{row},i{row},{('Public', 'Ignored', 'Ignored')[row % 3]}\n" for row in range(QUERIES)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "retrieval_solution_v2.1.csv").write_text(
        "id,images,Usage\n" + "".join(lines), encoding="utf-8"
    )
    return {name: tmp_path / name for name in ("index", "queries")} | {"out": tmp_path / "out.csv"}


def written(path: Path) -> dict[str, list[str]]:
    """Query → hits of a predictions file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split(",")[0]: line.split(",")[1].split(" ") for line in lines[1:]}


def test_only_scored_queries_are_searched_for_a_score(files, tmp_path, capsys):
    search(**files, data=tmp_path / "data", as_json=True)
    scored = json.loads(capsys.readouterr().out)
    assert list(written(files["out"])) == ["q0", "q3", "q6", "q9"]
    search(**files, data=tmp_path / "data", all_queries=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == scored and scored["map100_all"] == 1
    everything = written(files["out"])
    assert len(everything) == QUERIES
    search(**files)
    assert written(files["out"]) == everything


def test_queries_of_which_none_is_scored(files, tmp_path):
    lines = [f"q{row},None,Ignored\n" for row in range(QUERIES)]
    text = "id,images,Usage\n" + "".join(lines) + "other,i0,Public\n"
    (tmp_path / "data" / "retrieval_solution_v2.1.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="none of the 12 queries is scored"):
        search(**files, data=tmp_path / "data")
    assert not files["out"].exists()


@pytest.mark.parametrize("scored", [False, True])
def test_parts_merge_to_the_same_file_and_figures(files, tmp_path, capsys, scored):
    data = {"data": tmp_path / "data"} if scored else {}
    search(**files, **data, as_json=True)
    whole, figures = files["out"].read_bytes(), capsys.readouterr().out
    parts = [tmp_path / f"part{shard}" for shard in range(3)]
    for shard, part in enumerate(parts):
        search(**files | {"out": part}, **data, shard=f"{shard}/3")
        assert capsys.readouterr().out == f"{part}\n"
    files["out"].unlink()
    merge(parts[::-1], **files, **data, as_json=True)
    assert files["out"].read_bytes() == whole and capsys.readouterr().out == figures
    with pytest.raises(DataError, match="the results of the rows 200 to 300 are missing"):
        merge(parts[:2], **files, **data)


def test_parts_for_a_score_are_no_parts_for_everything(files, tmp_path):
    search(**files | {"out": tmp_path / "part"}, data=tmp_path / "data", shard="0/1")
    with pytest.raises(DataError, match="another queries"):
        merge([tmp_path / "part"], **files)


def test_an_approximate_search_says_what_it_finds(files, tmp_path, capsys):
    search(**files, data=tmp_path / "data", index_factory="IVF4,Flat", search_parameters="nprobe=4", as_json=True)
    figures = json.loads(capsys.readouterr().out)
    assert (figures["recall_100"], figures["recall_queries"], figures["map100_all"]) == (1, 4, 1)
    search(**files, index_factory="IVF4,Flat", search_parameters="nprobe=1", as_json=True)
    assert 0 < json.loads(capsys.readouterr().out)["recall_100"] < 1


def test_options_that_exclude_each_other(files):
    with pytest.raises(SpecError, match="--shard and --index-factory exclude each other"):
        search(**files, shard="0/2", index_factory="Flat")
    with pytest.raises(SpecError, match="--search-parameters belongs to --index-factory"):
        search(**files, search_parameters="nprobe=3")
    for device in ("gpu", "cuda:x", "cpu:0", ""):
        with pytest.raises(SpecError, match="expected auto, cpu, bfloat16, cuda or cuda:N"):
            search(**files, device=device)
    assert not files["out"].exists()
