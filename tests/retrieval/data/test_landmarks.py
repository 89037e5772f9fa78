"""The landmarks of index images: the tables of GLDv2 and of a plain folder, names, and what does not parse."""

import pytest

from retrieval.data.gldv2 import Gldv2
from retrieval.data.landmarks import index_landmarks, readable_name
from zoo.errors import DataError

A, B, C = (digit * 16 for digit in "abc")


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ("index_image_to_landmark.csv", "index_label_to_category.csv"),
        ("index_label.csv", "train_label_to_category.csv"),
    ],
)
def test_both_kinds_of_tables(tmp_path, images, names):
    (tmp_path / images).write_text(f"id,landmark_id\n{A},7\n{B},9\n", encoding="utf-8")
    found = index_landmarks(Gldv2(tmp_path))
    assert found.of_image == {A: 7, B: 9}
    assert found.name(7) == "landmark 7"
    (tmp_path / names).write_text("landmark_id,category\n7,Brücke\n8,Turm\n", encoding="utf-8")
    found = index_landmarks(Gldv2(tmp_path))
    assert (found.name(7), found.name(9)) == ("Brücke", "landmark 9")
    assert found.names == {7: "Brücke"}


def test_only_the_images_that_are_asked_for(tmp_path):
    (tmp_path / "index_label.csv").write_text(f"id,landmark_id\n{A},7\n{B},9\n", encoding="utf-8")
    assert index_landmarks(Gldv2(tmp_path), [B, C]).of_image == {B: 9}


def test_without_tables_there_are_none(tmp_path):
    assert index_landmarks(Gldv2(tmp_path)).of_image == {}


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("http://commons.wikimedia.org/wiki/Category:Cath%C3%A9drale_de_Reims", "Cathédrale de Reims"),
        ("Golden-Delicious", "Golden-Delicious"),
        ("under_score", "under_score"),
    ],
)
def test_addresses_become_titles(category, name):
    assert readable_name(category) == name


def test_a_landmark_that_is_no_number_is_an_error(tmp_path):
    (tmp_path / "index_label.csv").write_text(f"id,landmark_id\n{A},seven\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"index_label.csv, line 2: .*landmark_id"):
        index_landmarks(Gldv2(tmp_path))
