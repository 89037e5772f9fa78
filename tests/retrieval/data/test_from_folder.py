"""Folders of photographs become a data set: stable ids, no photograph in two splits, honest about what is left out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.data.from_folder import NAMES, Shares, from_folder
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.solution import read_retrieval_solution
from zoo.errors import DataError, OutputError

CLASSES = {"Eiffel Tower": 8, "Brücke über die Isar": 6, "東京タワー": 5, "two": 2}


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


@pytest.fixture
def source(tmp_path) -> Path:
    folder, seed = tmp_path / "my photographs", 0
    for name, count in CLASSES.items():
        for number in range(count):
            seed += 1
            suffix = ("JPG", "png", "jpeg", "webp")[number % 4]
            photograph(folder / name / ("deep" if number == 3 else "") / f"IMG {number} ä.{suffix}", seed)
    return folder


def files(dataset: Gldv2) -> dict[str, set[str]]:
    return {split: set(dataset.named_ids(split)) for split in ("train", "index", "test")}


def test_every_photograph_is_in_one_split_and_readable(source, tmp_path):
    counts = from_folder(source, tmp_path / "data")
    dataset = Gldv2(tmp_path / "data")
    found = files(dataset)
    assert counts["classes"] == len(CLASSES)
    assert sum(map(len, found.values())) == sum(CLASSES.values()) == counts["train"] + counts["index"] + counts["test"]
    assert not found["train"] & found["index"] and not found["test"] & (found["train"] | found["index"])
    for split, ids in found.items():
        for image_id in ids:
            assert read_image(dataset.image_path(split, image_id)).shape == (20, 30, 3)
    truth = read_retrieval_solution(dataset.solution_path).everything
    assert set(truth) == found["test"]
    assert all(set(relevant) <= found["index"] and relevant for relevant in truth.values())
    names = (tmp_path / "data" / NAMES).read_text(encoding="utf-8")
    assert all(name in names for name in CLASSES)


def test_a_share_of_the_classes_is_never_trained_on(source, tmp_path):
    from_folder(source, tmp_path / "data", shares=Shares(unseen=0.5))
    assert len(Gldv2(tmp_path / "data").train().landmark_ids) <= 2
    from_folder(source, tmp_path / "all", shares=Shares(unseen=0))
    assert len(Gldv2(tmp_path / "all").train().landmark_ids) == 3, "a class of two has an index image and a query"


def test_the_split_depends_on_bytes_and_seed_only(source, tmp_path):
    from_folder(source, tmp_path / "first")
    for file in sorted(source.rglob("*.JPG")):
        file.rename(file.with_name(f"renamed {file.name}"))
    from_folder(source, tmp_path / "second", copy=True)
    from_folder(source, tmp_path / "other", seed=1)
    first, second, other = (files(Gldv2(tmp_path / name)) for name in ("first", "second", "other"))
    assert first == second
    assert first != other


def test_files_are_linked_or_copied(source, tmp_path):
    for name, links in (("linked", 2), ("copied", 1)):
        from_folder(source, tmp_path / name, copy=links == 1)
        dataset = Gldv2(tmp_path / name)
        image = dataset.image_path("test", dataset.named_ids("test")[0])
        assert image.stat().st_nlink == links
    assert image.is_file()


def test_duplicates_and_broken_files_are_left_out_and_named(source, tmp_path, capfd):
    (source / "two" / "again.jpg").write_bytes(next((source / "Eiffel Tower").glob("*.JPG")).read_bytes())
    (source / "two" / "broken.jpg").write_bytes(b"not an image")
    photograph(source / "lonely" / "one.jpg", 999)
    counts = from_folder(source, tmp_path / "data")
    said = capfd.readouterr().err
    assert (counts["duplicates"], counts["unreadable"], counts["classes"]) == (1, 1, len(CLASSES))
    assert "again.jpg is the same photograph as" in said
    assert "broken.jpg: not an image" in said
    assert "the class 'lonely' has 1 readable photographs; at least 2 are needed" in said


def test_bad_input_is_refused(source, tmp_path):
    (tmp_path / "flat").mkdir()
    photograph(tmp_path / "flat" / "a.jpg", 1)
    with pytest.raises(DataError, match="one sub-folder of photographs per class, found none"):
        from_folder(tmp_path / "flat", tmp_path / "data")
    with pytest.raises(DataError, match="missing does not exist; expected a folder with one sub-folder"):
        from_folder(tmp_path / "missing", tmp_path / "data")
    photograph(tmp_path / "flat" / "one" / "a.jpg", 1)
    with pytest.raises(DataError, match="at least two classes"):
        from_folder(tmp_path / "flat", tmp_path / "data")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="already (holds|contains)"):
        from_folder(source, tmp_path / "full")
    with pytest.raises(OutputError, match="holds the input"):
        from_folder(source, tmp_path, overwrite=True)
    with pytest.raises(DataError, match="index \\+ queries below 1"):
        Shares(0.6, 0.5)
    assert not (tmp_path / "data").exists()


def test_the_command(source, tmp_path):
    command = [sys.executable, "-m", "retrieval.data.from_folder", str(source), "--out", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "data")
    assert "4 classes" in done.stderr


def test_a_class_whose_name_is_not_utf8(tmp_path):
    for name in (b"caf\xe9", b"b"):
        folder = os.fsencode(tmp_path / "photographs") + b"/" + name
        os.makedirs(folder)
        for number in range(2):
            Image.new("RGB", (9, 9), (number, len(name), 0)).save(os.fsdecode(folder + b"/%d.png" % number))
    from_folder(tmp_path / "photographs", tmp_path / "out")
    assert "caf\\udce9" in (tmp_path / "out" / "train_label_to_category.csv").read_text(encoding="utf-8")


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(DataError, match="seed of 0 or more, found -1"):
        from_folder(tmp_path, tmp_path / "out", seed=-1)
