"""The benchmark of the loaders measures all of them on the same files, and says which targets are met."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import data
from retrieval.data.gldv2 import Gldv2
from zoo.errors import DataError


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs" / "deep"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).resize((60, 50)).save(folder / f"{number}.JPG")
    return folder.parent


def test_every_loader_has_a_figure(photographs, monkeypatch):
    monkeypatch.setattr(data, "CASES", (data.Case(64, 48, 32, 0.001), data.Case(64, 48, 64, 1000.0)))
    monkeypatch.setattr(data, "BATCH", 4)
    rows = data.measure_all(photographs, passes=1, count=8)
    assert [row["case"] for row in rows] == ["64 × 48 → 32", "64 × 48 → 64"]
    assert all(row["images_per_second"].keys() == set(data.PEERS) for row in rows)
    assert all(rate > 0 for row in rows for rate in row["images_per_second"].values())
    lines = data.table(rows).splitlines()
    assert "0.001 met" in lines[2] and "1000 **missed**" in lines[3]


def test_the_files_are_the_same_every_time(photographs, tmp_path):
    files = sorted(photographs.rglob("*.JPG"))
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        data.make_set(files, tmp_path / name, 1000, 700, 2)
        dataset = Gldv2(tmp_path / name)
        made.append([dataset.image_path("train", image_id).read_bytes() for image_id in dataset.train().ids])
    assert made[0] == made[1] and made[0][0] != made[0][1]


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no files of the kinds .jpg"):
        data.measure_all(tmp_path, passes=1, count=4)
