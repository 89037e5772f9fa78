"""Draws a small data set in the layout of Google Landmarks v2: made-up buildings, seen from many sides."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from retrieval.data.csv_tables import write_rows
from retrieval.data.gldv2 import Gldv2
from retrieval.demo.landmarks import KINDS, Landmark, build_landmark
from retrieval.demo.photos import photograph

LICENCE = "https://creativecommons.org/publicdomain/zero/1.0/"
TRAIN_LANDMARK_IDS = 1000
INDEX_LANDMARK_IDS = 50000
"""First landmark ids of the two id spaces: a building has different ids in the index and in training."""
JPEG_QUALITY = (55, 95)


@dataclass(frozen=True)
class DemoSize:
    """How many images are drawn: by default 512 for training, 280 for the index and 80 queries.

    Attributes:
        train_landmarks: landmarks with training images, `train_images` of each.
        queried_seen: landmarks with queries that were trained on; at most `train_landmarks`.
        queried_unseen: landmarks with queries that were not.
        index_images: index images of each queried landmark.
        queries: queries of each queried landmark.
        other_images: index images of each training landmark without queries.
        distractors: index images without a landmark.
        ignored: test images without a landmark, whose Usage is Ignored.
    """

    train_landmarks: int = 32
    train_images: int = 16
    queried_seen: int = 16
    queried_unseen: int = 8
    index_images: int = 8
    queries: int = 3
    other_images: int = 2
    distractors: int = 56
    ignored: int = 8


@dataclass
class _Tables:
    """The images to draw, (split, id, number of the landmark or None), and the rows of each CSV file."""

    images: list[tuple[str, str, int | None]] = field(default_factory=list)
    rows: dict[str, list[tuple]] = field(default_factory=dict)

    def add(self, name: str, *row: object) -> None:
        self.rows.setdefault(name, []).append(row)


def write_demo_data(root: Path, *, seed: int = 0, size: DemoSize = DemoSize()) -> None:
    """Fills the empty folder `root`; the same seed, size and library versions give the same bytes."""
    tables = _plan(seed, size)
    dataset = Gldv2(root)
    landmarks: dict[int, Landmark] = {}
    for position, (split, image_id, number) in enumerate(tqdm(tables.images, "drawing", unit="image")):
        if number is not None and number not in landmarks:
            landmarks[number] = demo_landmark(seed, number)
        rng = _generator(seed, 1, position)
        path = dataset.image_path(split, image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        landmark = None if number is None else landmarks[number]
        photograph(landmark, rng).save(path, quality=int(rng.integers(*JPEG_QUALITY)))
    for name, rows in tables.rows.items():
        write_rows(root / name, rows)


def demo_landmark(seed: int, number: int) -> Landmark:
    """Landmark `number` of a set: its kind is `number` modulo the number of kinds, so that several share a kind."""
    return build_landmark(number, _generator(seed, 0, number))


def _name(number: int) -> str:
    """What landmark `number` is called: its kind, and a number if there are several of it."""
    kind = KINDS[number % len(KINDS)].__name__.strip("_").replace("_", " ").capitalize()
    return f"{kind} {number // len(KINDS) + 1}"


def _plan(seed: int, size: DemoSize) -> _Tables:
    tables = _Tables()
    for name, columns in (
        ("train.csv", ("id", "url", "landmark_id")),
        ("train_attribution.csv", ("id", "url", "author", "license", "title")),
        ("train_clean.csv", ("landmark_id", "images")),
        ("index.csv", ("id",)),
        ("index_image_to_landmark.csv", ("id", "landmark_id")),
        ("index_label_to_category.csv", ("landmark_id", "category")),
        ("test.csv", ("id",)),
        ("retrieval_solution_v2.1.csv", ("id", "images", "Usage")),
    ):
        tables.add(name, *columns)

    def new_images(split: str, count: int, number: int | None) -> list[str]:
        first = len(tables.images)
        names = [f"{seed}/{split}/{k}" for k in range(first, first + count)]
        ids = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in names]
        tables.images += [(split, image_id, number) for image_id in ids]
        return ids

    for number in range(size.train_landmarks):
        ids = new_images("train", size.train_images, number)
        landmark_id = TRAIN_LANDMARK_IDS + number
        for image_id in ids:
            url = f"https://demo.invalid/{image_id}.jpg"
            tables.add("train.csv", image_id, url, landmark_id)
            tables.add("train_attribution.csv", image_id, url, "landmark-zoo", LICENCE, f"Made-up landmark {number}")
        tables.add("train_clean.csv", landmark_id, " ".join(ids))
    unseen = range(size.train_landmarks, size.train_landmarks + size.queried_unseen)
    index, test = [], []
    for number in [*range(size.train_landmarks), *unseen]:
        queried = number < size.queried_seen or number in unseen
        ids = new_images("index", size.index_images if queried else size.other_images, number)
        index += [(image_id, INDEX_LANDMARK_IDS + number) for image_id in ids]
        tables.add("index_label_to_category.csv", INDEX_LANDMARK_IDS + number, _name(number))
        for k, query in enumerate(new_images("test", size.queries, number) if queried else ()):
            test.append((query, " ".join(ids), "Private" if k % 3 else "Public"))
    index += [(image_id, None) for image_id in new_images("index", size.distractors, None)]
    test += [(image_id, "None", "Ignored") for image_id in new_images("test", size.ignored, None)]
    # Ids are hashes, so their order mixes the landmarks, as in the real tables.
    for image_id, landmark_id in sorted(index):
        tables.add("index.csv", image_id)
        if landmark_id is not None:
            tables.add("index_image_to_landmark.csv", image_id, landmark_id)
    for row in sorted(test):
        tables.add("test.csv", row[0])
        tables.add("retrieval_solution_v2.1.csv", *row)
    return tables


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
