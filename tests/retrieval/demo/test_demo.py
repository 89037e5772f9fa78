import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retrieval.data.check import check_data
from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import read_image
from retrieval.demo.dataset import DemoSize, demo_landmark, write_demo_data
from retrieval.demo.landmarks import KINDS, build_landmark
from retrieval.demo.photos import photograph
from retrieval.demo.shapes import ROOF, WALL, Mesh, View, draw_mesh

SMALL = DemoSize(
    train_landmarks=4,
    train_images=3,
    queried_seen=2,
    queried_unseen=1,
    index_images=4,
    queries=3,
    other_images=2,
    distractors=5,
    ignored=2,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, seed=3, size=SMALL)
    return folder


def table(root: Path, name: str) -> list[dict[str, str]]:
    with open(root / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_columns_are_those_of_the_real_data_set(root):
    headers = {path.name: path.read_text().splitlines()[0] for path in root.glob("*.csv")}
    assert headers == {
        "train.csv": "id,url,landmark_id",
        "train_attribution.csv": "id,url,author,license,title",
        "train_clean.csv": "landmark_id,images",
        "index.csv": "id",
        "index_image_to_landmark.csv": "id,landmark_id",
        "index_label_to_category.csv": "landmark_id,category",
        "test.csv": "id",
        "retrieval_solution_v2.1.csv": "id,images,Usage",
    }


def test_every_named_image_exists_and_no_other(root):
    dataset = Gldv2(root)
    named = [
        dataset.image_path(split, name) for split in ("train", "index", "test") for name in dataset.named_ids(split)
    ]
    assert sorted(named) == sorted(root.rglob("*.jpg"))
    assert len(dataset.train().ids) == 12
    assert len(dataset.readable_ids("index")) == 3 * 4 + 2 * 2 + 5
    assert len(dataset.named_ids("test")) == 3 * 3 + 2
    for path in named:
        height, width, _ = read_image(path).shape
        assert min(height, width) >= 80 and max(height, width) <= 200


def test_train_and_train_clean_agree(root):
    clean = Gldv2(root).train()
    assert np.bincount(clean.labels).tolist() == [3, 3, 3, 3]
    (root / "train_clean.csv").rename(root / "aside")
    try:
        plain = Gldv2(root).train()
    finally:
        (root / "aside").rename(root / "train_clean.csv")
    assert plain.ids == clean.ids and plain.landmark_ids == clean.landmark_ids
    np.testing.assert_array_equal(plain.labels, clean.labels)
    assert [row["id"] for row in table(root, "train_attribution.csv")] == list(clean.ids)


def test_the_solution_names_the_index_images_of_the_querys_landmark(root):
    solution = table(root, "retrieval_solution_v2.1.csv")
    assert [row["id"] for row in solution] == list(Gldv2(root).named_ids("test"))
    assert Counter(row["Usage"] for row in solution) == {"Public": 3, "Private": 6, "Ignored": 2}
    landmark = {row["id"]: int(row["landmark_id"]) for row in table(root, "index_image_to_landmark.csv")}
    members = {number: {name for name in landmark if landmark[name] == number} for number in landmark.values()}
    queried = set()
    for row in solution:
        if row["Usage"] == "Ignored":
            assert row["images"] == "None"
            continue
        relevant = row["images"].split()
        number = landmark[relevant[0]]
        assert set(relevant) == members[number] and len(relevant) == 4
        queried.add(number)
    assert len(queried) == 3
    assert len(set(Gldv2(root).readable_ids("index")) - set(landmark)) == SMALL.distractors
    assert not set(landmark.values()) & set(Gldv2(root).train().landmark_ids)


def test_the_tables_do_not_give_the_landmarks_away_by_their_order(root):
    assert list(Gldv2(root).readable_ids("index")) == sorted(Gldv2(root).readable_ids("index"))
    assert list(Gldv2(root).named_ids("test")) == sorted(Gldv2(root).named_ids("test"))


def test_the_default_sizes():
    size = DemoSize()
    others = size.train_landmarks - size.queried_seen
    queried = size.queried_seen + size.queried_unseen
    assert size.train_landmarks * size.train_images == 512
    assert queried * size.index_images + others * size.other_images + size.distractors == 280
    assert queried * size.queries + size.ignored == 80


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(root, tmp_path):
    for name, seed in (("again", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        write_demo_data(tmp_path / name, seed=seed, size=SMALL)
    assert contents(tmp_path / "again") == contents(root)
    first, second = contents(root), contents(tmp_path / "other")
    assert not {name for name in first if name.endswith(".jpg")} & set(second)
    assert not {first[name] for name in first if name.endswith(".jpg")} & set(second.values())


def test_another_seed_builds_other_landmarks():
    view = View(yaw=0, pitch=0, roll=0, distance=9)
    boxes = [demo_landmark(seed, 0).mesh.project(view)[-1] for seed in (0, 0, 1)]
    assert np.array_equal(boxes[0], boxes[1]) and not np.allclose(boxes[0], boxes[2])
    assert not np.array_equal(demo_landmark(0, 0).palette, demo_landmark(0, len(KINDS)).palette)


def test_every_image_passes_check_data(tmp_path):
    write_demo_data(tmp_path, seed=1, size=SMALL)
    assert check_data(tmp_path, workers=2)[1] == {"train": 0, "index": 0, "test": 0}


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_kind_of_landmark_is_a_visible_building_that_differs_from_its_kin(kind):
    def silhouette(number: int) -> np.ndarray:
        canvas = Image.new("RGB", (120, 120), (255, 0, 255))
        landmark = build_landmark(kind, np.random.default_rng([kind, number]))
        draw_mesh(
            ImageDraw.Draw(canvas),
            landmark.mesh,
            View(yaw=0.3, pitch=0.1, roll=0, distance=6),
            landmark.palette,
            foot=(60, 115),
            extent=(110, 110),
            light=np.array([0.2, 0.3, 0.3]),
            glow=False,
        )
        return (np.asarray(canvas) != (255, 0, 255)).any(-1)

    shapes = [silhouette(number) for number in range(3)]
    for shape in shapes:
        assert shape.mean() > 0.03
        rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) >= 105
        assert rows.max() <= 116 and columns.min() >= 4 and columns.max() <= 116
    assert (shapes[0] != shapes[1]).mean() > 0.005 and (shapes[1] != shapes[2]).mean() > 0.005


def test_faces_turned_away_are_not_drawn():
    landmark = build_landmark(9, np.random.default_rng(0))
    for yaw in (0.0, 0.5, 2.0):
        _, _, normals, _ = landmark.mesh.project(View(yaw=yaw, pitch=0.0, roll=0, distance=1e6))
        towards_camera = np.array([-np.sin(yaw), 0, np.cos(yaw)])
        assert (normals @ towards_camera > -1e-3).all()
        assert len(normals) > 20


def test_a_nearer_tower_hides_a_farther_one():
    mesh = Mesh()
    mesh.box(0.5, 1, 0.5, at=(0, 1), material=WALL)
    mesh.box(0.5, 1, 0.5, at=(0, -1), material=ROOF)
    for yaw, nearer in ((0.0, WALL), (np.pi, ROOF)):
        _, materials, _, _ = mesh.project(View(yaw=yaw, pitch=0.0, roll=0, distance=6))
        assert materials[-1] == nearer
    for yaw, nearer in ((np.pi / 2, WALL), (-np.pi / 2, ROOF)):
        side = Mesh()
        side.box(0.5, 1, 0.5, at=(-1, 0), material=WALL)
        side.box(0.5, 1, 0.5, at=(1, 0), material=ROOF)
        _, materials, _, _ = side.project(View(yaw=yaw, pitch=0.0, roll=0, distance=6))
        assert materials[-1] == nearer


def test_photographs_vary_in_size_and_in_what_they_show():
    landmark = build_landmark(0, np.random.default_rng(0))
    photos = [photograph(landmark, np.random.default_rng(seed)) for seed in range(12)]
    assert len({photo.size for photo in photos}) > 6
    assert {photo.width > photo.height for photo in photos} == {True, False}
    means = np.array([np.asarray(photo).mean((0, 1)) for photo in photos])
    assert (means.std(0) > 8).all()


def test_the_command_refuses_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    command = [sys.executable, "-m", "retrieval.demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "mine.txt" in done.stderr and "--overwrite" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
