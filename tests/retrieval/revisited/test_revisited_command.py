"""From photographs and a ground truth to a data set and to scores."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landmark_zoo.__main__ import dispatch
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.embeddings import Embeddings
from retrieval.revisited.data_set import image_id
from zoo.errors import DataError

BOX = (2.4, 3, 9.6, 11)
"""Rounded to 2, 3, 10, 11."""
GND = {
    "gnd": [
        {"bbx": list(BOX), "easy": [0], "hard": [1], "junk": [2]},
        {"bbx": [0, 0, 5, 5], "easy": [3], "hard": [], "junk": []},
    ],
    "imlist": ["tower_1", "tower_2", "tower_3", "bridge_1"],
    "qimlist": ["tower_q", "bridge_q"],
}


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A ground truth and its photographs, in two folders."""
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(GND, 3))
    random = np.random.default_rng(0)
    for number, name in enumerate((*GND["imlist"], *GND["qimlist"])):
        folder = tmp_path / "photographs" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(256, size=(16, 12, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    return tmp_path


def test_the_data_set_has_the_images_and_the_queries_cut_out(given, capsys):
    dispatch(["revisited", "data", f"{given}/gnd.pkl", "--images", f"{given}/photographs", "--out", f"{given}/data"])
    assert capsys.readouterr().out == f"{given}/data\n"
    data = Gldv2(given / "data")
    assert data.readable_ids("index") == tuple(map(image_id, GND["imlist"]))
    assert data.readable_ids("test") == tuple(map(image_id, GND["qimlist"]))
    [original] = (given / "photographs").rglob("tower_1.jpg")
    assert data.image_path("index", image_id("tower_1")).read_bytes() == original.read_bytes()
    [whole] = (given / "photographs").rglob("tower_q.jpg")
    query = read_image(data.image_path("test", image_id("tower_q")))
    with Image.open(whole) as image:
        assert np.array_equal(query, np.asarray(image.crop(tuple(round(side) for side in BOX))))
    assert (given / "data" / "test.csv").read_text().splitlines()[1] == f"{image_id('tower_q')},tower_q"


def test_what_is_missing_is_named(given):
    words = ["revisited", "data", f"{given}/gnd.pkl", "--images", f"{given}/photographs", "--out", f"{given}/data"]
    [image] = (given / "photographs").rglob("bridge_q.jpg")
    image.unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 6 photographs, first bridge_q\.jpg"):
        dispatch(words)
    Image.new("RGB", (4, 3)).save(image)
    [query] = (given / "photographs").rglob("tower_q.jpg")
    Image.new("RGB", (2, 3)).save(query)
    with pytest.raises(DataError, match=r"box \[2\.4, 3\.0, 9\.6, 11\.0\] lies outside of its image of 2 × 3 pixels"):
        dispatch(words)
    assert not (given / "data").exists()


def _embeddings(given: Path, *, hashed: bool) -> None:
    """Descriptors by which tower_q finds tower_1, a distractor, tower_3 (junk), tower_2, and bridge_q finds bridge_1 first."""
    angles = {"tower_1": 0.1, "distractor": 0.2, "tower_3": 0.3, "tower_2": 0.4, "bridge_1": 2.0}
    for file, own in (("index", angles), ("queries", {"bridge_q": 2.1, "tower_q": 0.0})):
        ids = tuple(image_id(name) if hashed else name for name in own)
        rows = np.array([[np.cos(angle), np.sin(angle)] for angle in own.values()], np.float32)
        Embeddings(ids, rows, {"model": "m"}).save(given / file)


@pytest.mark.parametrize("hashed", [False, True])
def test_scores(given, capsys, hashed):
    _embeddings(given, hashed=hashed)
    words = ["revisited", "score", f"{given}/gnd.pkl", "--index", f"{given}/index", "--queries", f"{given}/queries"]
    dispatch([*words, "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["easy"] == {"map": 1, "precision_1": 1, "precision_5": 1, "precision_10": 1, "queries": 2}
    # Without tower_1 and tower_3, tower_2 comes second; bridge_q has no hard image.
    assert figures["hard"]["map"] == 0.25 and figures["hard"]["queries"] == 1
    # Ranks 0 and 2 of tower_q: (1 + (1/2 + 2/3) / 2) / 2.
    assert figures["medium"]["map"] == pytest.approx((1 + (1 + (1 / 2 + 2 / 3) / 2) / 2) / 2)
    dispatch(words)
    assert "medium" in capsys.readouterr().out


def test_an_image_without_a_descriptor_is_an_error(given):
    _embeddings(given, hashed=False)
    index = Embeddings.load(given / "index")
    Embeddings(index.ids[:-1], index.descriptors[:-1], index.source).save(given / "index")
    with pytest.raises(
        DataError, match="1 of 4 images of the ground truth have no descriptor in the index, first 'bridge_1'"
    ):
        dispatch(
            ["revisited", "score", f"{given}/gnd.pkl", "--index", f"{given}/index", "--queries", f"{given}/queries"]
        )


def test_the_ground_truth_as_json_serves_as_well(given, capsys):
    _embeddings(given, hashed=False)
    dispatch(["revisited", "convert", f"{given}/gnd.pkl", "--out", f"{given}/gnd.json"])
    scores = []
    for gnd in ("gnd.pkl", "gnd.json"):
        capsys.readouterr()
        sides = ["--index", f"{given}/index", "--queries", f"{given}/queries"]
        dispatch(["revisited", "score", f"{given}/{gnd}", *sides, "--json"])
        scores.append(capsys.readouterr().out)
    assert scores[0] == scores[1]
