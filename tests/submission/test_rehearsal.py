"""What was packed, in a real TensorFlow 2.2: its descriptors, its ranking of a data set, and its speed."""

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from export import parity, rehearsal, tf22
from export.rehearsal import Ranked, Rehearsal, rehearse
from retrieval.data.csv_tables import write_rows
from submission import pack
from tests.retrieval.data.tars import as_tars
from zoo.errors import DataError, SubmissionError

INDEX, QUERIES = 30, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data set of a few JPEGs in the layout of Google Landmarks v2."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(5)
    for split, first, count in (("index", "a", INDEX), ("test", "b", QUERIES)):
        names = [f"{first}{number:015x}" for number in range(count)]
        write_rows(root / f"{split}.csv", [("id",), *((name,) for name in names)])
        for name in names:
            path = root.joinpath(split, *name[:3], f"{name}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            ramp = np.linspace(random.uniform(0, 255, 3), random.uniform(0, 255, 3), 20)
            PIL.Image.fromarray(np.tile(ramp[None], (15, 1, 1)).astype(np.uint8)).save(path, quality=95)
    return root


@pytest.fixture(scope="module")
def ranked(data, tiny_descriptor) -> dict[str, list[str]]:
    """The whole index, nearest first, for each query, by the model `good`."""
    found = {}
    for split in ("index", "test"):
        for path in sorted((data / split).rglob("*.jpg")):
            with PIL.Image.open(path) as image:
                found[path.stem] = tiny_descriptor(np.array(image))
    index = [name for name in found if name.startswith("a")]
    return {
        query: sorted(index, key=lambda name: float(np.linalg.norm(found[name] - found[query])))
        for query in found.keys() - set(index)
    }


def write_predictions(path: Path, ranked: dict[str, list[str]]) -> Path:
    write_rows(path, [("id", "images"), *((query, " ".join(hits)) for query, hits in ranked.items())])
    return path


def test_the_packed_zip_ranks_as_the_model_did(
    data, ranked, tiny_saved_models, tf22_python, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv(tf22.PYTHON_VARIABLE, str(tf22_python))
    predictions = write_predictions(tmp_path / "predictions.csv", ranked)
    options = {"owner": "someone", "data": data, "predictions": predictions}
    path = pack.pack(tiny_saved_models / "good", tmp_path / "upload", **options)
    said = capfd.readouterr().err
    assert "verified: unzipped and run in TensorFlow 2.2.0: max abs " in said
    assert "verified: ranked by TensorFlow 2.2.0: 3 queries in 30 images as in the predictions\n" in said
    assert "images/s on this machine's" in said and "h for 879,334 images; the contest allows 12 h" in said
    card = (path.parent / pack.MODEL_CARD).read_text(encoding="utf-8")
    assert "It ranked 30 images for 3 queries as expected." in card


def test_a_zip_of_another_model_is_refused(tiny_saved_models, tf22_python, tmp_path):
    pack.write_zip(tiny_saved_models / "another", tmp_path / "submission.zip")
    with pytest.raises(SubmissionError, match="does not do in TensorFlow 2.2.0 what .*good does"):
        rehearse(tmp_path / "submission.zip", tiny_saved_models / "good", tf22_python)


@pytest.mark.usefixtures("scored_in_numpy")
def test_nothing_is_packed_if_the_ranking_is_another(data, ranked, tiny_saved_models, tmp_path, monkeypatch):
    monkeypatch.setattr(tf22, "find_python", lambda: Path("python"))
    monkeypatch.setattr(rehearsal, "_photographs", lambda *_: ("2.2.0", None, 1.0))
    wrong = {query: [hits[-1], *hits[1:-1], hits[0]] for query, hits in ranked.items()}
    predictions = write_predictions(tmp_path / "predictions.csv", wrong)
    with pytest.raises(SubmissionError, match="otherwise than .*: at rank 1 it expects"):
        pack.pack(tiny_saved_models / "good", tmp_path / "upload", owner="someone", data=data, predictions=predictions)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_without_tensorflow_22_it_says_how_to_verify(tiny_saved_models, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tf22, "find_python", lambda: None)
    path = pack.pack(tiny_saved_models / "good", tmp_path / "upload", owner="someone")
    said = capfd.readouterr().err
    assert "NOT VERIFIED" in said and "make tf22" in said and "Python 3.8" in said
    assert "was not run in TensorFlow 2.2" in (path.parent / pack.MODEL_CARD).read_text(encoding="utf-8")


def test_a_ranking_comes_with_its_data_set(data, tiny_saved_models, tmp_path):
    for given in ({"data": data}, {"predictions": tmp_path / "predictions.csv"}):
        with pytest.raises(SubmissionError, match="belong together"):
            pack.pack(tiny_saved_models / "good", tmp_path / "upload", owner="someone", **given)


@pytest.mark.parametrize(("speed", "warns"), [(20.3, True), (20.4, False)])
def test_more_than_the_contests_hours_are_warned_of(speed, warns):
    row = parity.Row("savedmodel → tf 2.2", "submission.zip", 1e-7, 1.0, 1e-5)
    said = " ".join(
        pack._describe(Rehearsal("2.2.0", "2.19.1", row, speed, Ranked(3, 30, 3, chosen=False)), verified=True)
    )
    assert f"{speed} images/s" in said and "12.0 h for 879,334 images" in said
    assert ("WARNING" in said) == warns


AWAY = {"a": 1.0, "b": 2.0, "c": 2.00005, "d": 3.0}


@pytest.mark.parametrize(
    ("hits", "rank"),
    [
        (["a", "b", "c", "d"], None),
        (["a", "c", "b", "d"], None),  # a tie
        (["a", "c"], None),
        ([], None),
        (["a", "d", "b", "c"], 2),
        (["a", "b", "d"], 3),
        (["d"], 1),
    ],
)
def test_hits_are_the_nearest_images_in_order(hits, rank):
    def require() -> None:
        rehearsal._require_order(Path("submission.zip"), "q", hits, AWAY, 1e-4, Path("predictions.csv"))

    if rank is None:
        require()
        return
    with pytest.raises(SubmissionError, match=f"at rank {rank} it expects"):
        require()


@pytest.fixture
def scored_in_numpy(tiny_descriptor, monkeypatch) -> None:
    """Instead of TensorFlow 2.2, the same model in numpy."""

    def score(submission: Path, test: Path, index: Path, python: Path) -> dict:
        found = {}
        for split, folder in (("queries", test), ("index", index)):
            paths = sorted(folder.rglob("*.jpg"))
            found[split] = np.stack([tiny_descriptor(np.array(PIL.Image.open(path))) for path in paths])
            found["query_ids" if split == "queries" else "index_ids"] = [path.stem for path in paths]
        nearest = np.argsort(np.linalg.norm(found["queries"][:, None] - found["index"][None], axis=2), 1, kind="stable")
        hits = [[found["index_ids"][row] for row in rows[:100]] for rows in nearest]
        return found | {"predictions": dict(zip(found["query_ids"], hits, strict=True))}

    monkeypatch.setattr(tf22, "score", score)


def rank(data: Path, predictions: Path) -> Ranked:
    choice = rehearsal._choose(rehearsal.Gldv2(data), predictions)
    return rehearsal._rank(Path("submission.zip"), Path("python"), choice, predictions)


@pytest.mark.usefixtures("scored_in_numpy")
def test_of_a_large_data_set_a_part_is_ranked(data, ranked, tmp_path, monkeypatch):
    predictions = write_predictions(tmp_path / "p.csv", {query: hits[:5] for query, hits in ranked.items()})
    assert rank(data, predictions) == Ranked(QUERIES, INDEX, QUERIES, chosen=False)
    monkeypatch.setattr(rehearsal, "LARGEST", 20)
    part = rank(data, predictions)
    assert part.chosen and part.queries == 1 and part.queries + part.images == 20 and part.same == 1
    far = {query: [*hits[:4], hits[-1]] for query, hits in ranked.items()}
    with pytest.raises(SubmissionError, match="at rank 5"):
        rank(data, write_predictions(predictions, far))


@pytest.mark.usefixtures("scored_in_numpy")
def test_a_data_set_of_tars_is_ranked_too(data, ranked, tmp_path):
    predictions = write_predictions(tmp_path / "p.csv", ranked)
    assert rank(as_tars(data, tmp_path / "tars"), predictions) == Ranked(QUERIES, INDEX, QUERIES, chosen=False)


@pytest.mark.usefixtures("scored_in_numpy")
def test_images_that_cannot_be_read_are_left_out(data, ranked, tmp_path, capfd):
    shutil.copytree(data, tmp_path / "data")
    lost = next(iter(ranked.values()))[0]
    next((tmp_path / "data").rglob(f"{lost}.jpg")).write_bytes(b"cut short")
    predictions = write_predictions(tmp_path / "p.csv", ranked)
    assert rank(tmp_path / "data", predictions) == Ranked(QUERIES, INDEX - 1, QUERIES, chosen=False)
    assert f"{lost}.jpg" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Q,A elsewhere"], "1 images that are not in the data set's index split, first 'elsewhere'"),
        (["other,A"], "not in the data set's test split, first 'other'"),
        (["Q,A A"], "found one twice"),
        (["Q,A", "Q,B"], "found one twice"),
        (["Q,"], "at least one query"),
        ([], "at least one query"),
    ],
)
def test_predictions_of_other_images_are_refused_before_the_work(lines, message, data, tiny_saved_models, tmp_path):
    ids = {"Q": "b" + "0" * 15, "A": "a" + "0" * 15, "B": "a" + "0" * 14 + "1"}
    lines = ["".join(ids.get(letter, letter) for letter in line) for line in lines]
    (tmp_path / "p.csv").write_text("\n".join(["id,images", *lines]) + "\n")
    with pytest.raises(DataError, match=message):
        rehearse(tmp_path / "none.zip", tiny_saved_models / "good", Path("none"), data, tmp_path / "p.csv")
