"""Reads a data set in the layout of Google Landmarks v2.

Layout: `<root>/<split>/a/b/c/<id>.jpg`, where split is train, index or test, id is 16 hexadecimal digits and a, b, c
are its first three; the tables (`train.csv`, `train_clean.csv`, `index.csv`, `test.csv`,
`retrieval_solution_v2.1.csv`) are in the root. Source: https://github.com/cvdfoundation/google-landmark.

No list of GLDv2's damaged images is published, so `retrieval.data.check` writes one for a local copy:
`<root>/unreadable.csv`. Images listed there are left out of `train()` and `readable_ids()`. Queries are never left out, because
mAP@100 is a mean over all of them: if unreadable queries are not embedded, the metric counts them as 0. The relevant images
of a query are unchanged too, so damaged images can only lower a score.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.data.csv_tables import bad_row, read_rows
from zoo.errors import DataError
from zoo.inputs import require_folder
from zoo.limits import LANDMARK_DIGITS

SPLITS = ("train", "index", "test")
UNREADABLE = "unreadable.csv"
LANDMARK_TABLES = (
    ("index_image_to_landmark.csv", "index_label_to_category.csv"),
    ("index_label.csv", "train_label_to_category.csv"),
)
"""Optional tables of the landmarks of index images and of their names, as `retrieval.data.landmarks` reads them."""

_IMAGE_ID = re.compile(r"[0-9a-f]{16}")

_HOW_TO_GET_DATA = (
    "Point to a copy of GLDv2, whose tables are downloads of their own (https://github.com/cvdfoundation/google-landmark), "
    "or make a small set with `python -m retrieval.demo --out DIR`."
)


@dataclass(frozen=True, eq=False)
class TrainSet:
    """The labelled images.

    Attributes:
        ids: n image ids, in the order of the table.
        labels: int64 [n], the class index of each image.
        landmark_ids: landmark id of each class index, ascending. It depends only on the table, not on
            `unreadable.csv`, so a checkpoint's classes keep their meaning after `retrieval.data.check` has run.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    landmark_ids: tuple[int, ...]

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class index."""
        return tuple(np.bincount(self.labels, minlength=len(self.landmark_ids)).tolist())


class Gldv2:
    """A data set on disk.

    Raises:
        DataError: `root` is not a folder; by the methods: a table is missing, or a row of it does not parse.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        require_folder(self.root, "the root of a data set", DataError, _HOW_TO_GET_DATA)

    def train(self) -> TrainSet:
        """The images of `train_clean.csv` if it exists, otherwise of `train.csv`, without the unreadable ones."""
        ids, landmarks = self._train_rows
        landmark_ids, labels = np.unique(np.asarray(landmarks, np.int64), return_inverse=True)
        bad = self.unreadable("train")
        kept = np.array([image_id not in bad for image_id in ids], bool)
        return TrainSet(
            ids=tuple(image_id for image_id in ids if image_id not in bad),
            labels=labels.astype(np.int64)[kept],
            landmark_ids=tuple(landmark_ids.tolist()),
        )

    def named_ids(self, split: str) -> tuple[str, ...]:
        """Every id in the split's table, readable or not."""
        if split == "train":
            return self._train_rows[0]
        path = self.table_path(split)
        ids: dict[str, None] = {}
        for line, (image_id,) in read_rows(path, ("id",), advice=_HOW_TO_GET_DATA):
            _check_new_id(path, line, image_id, ids)
            ids[image_id] = None
        return tuple(ids)

    def readable_ids(self, split: str) -> tuple[str, ...]:
        """Every id in the split's table except those known to be unreadable: what can be embedded."""
        bad = self.unreadable(split)
        return tuple(image_id for image_id in self.named_ids(split) if image_id not in bad)

    def unreadable(self, split: str) -> frozenset[str]:
        """The ids that `retrieval.data.check` found missing or damaged; empty if it has not run."""
        return self._unreadable.get(split, frozenset())

    def table_path(self, split: str) -> Path:
        """The table of the split's images."""
        clean = self.root / "train_clean.csv"
        return clean if split == "train" and clean.exists() else self.root / f"{split}.csv"

    def image_path(self, split: str, image_id: str) -> Path:
        """`<root>/<split>/a/b/c/<id>.jpg`, whether or not the file exists."""
        return self.root.joinpath(split, *image_id[:3], f"{image_id}.jpg")

    def files(self) -> list[Path]:
        """What commands read and must not write: the tables, and the folders of the images with the first level in them."""
        names = ["train_clean.csv", *(f"{split}.csv" for split in SPLITS), UNREADABLE, self.solution_path.name]
        names += [name for pair in LANDMARK_TABLES for name in pair]
        folders = [self.root / split for split in SPLITS if (self.root / split).is_dir()]
        within = (path for folder in folders for path in sorted(folder.iterdir()))
        return [*(path for name in names if (path := self.root / name).exists()), *folders, *within]

    @property
    def solution_path(self) -> Path:
        """The ground truth of the queries: id, images, Usage."""
        return self.root / "retrieval_solution_v2.1.csv"

    @cached_property
    def _train_rows(self) -> tuple[tuple[str, ...], list[int]]:
        path = self.table_path("train")
        clean = path.name == "train_clean.csv"
        landmarks: dict[str, int] = {}
        for line, (field, landmark) in read_rows(
            path, ("images" if clean else "id", "landmark_id"), advice=_HOW_TO_GET_DATA
        ):
            if not (landmark.isascii() and landmark.isdecimal() and len(landmark) <= LANDMARK_DIGITS):
                raise bad_row(path, line, f"an integer landmark_id of at most {LANDMARK_DIGITS} digits", landmark)
            for image_id in field.split() if clean else (field,):
                _check_new_id(path, line, image_id, landmarks)
                landmarks[image_id] = int(landmark)
        return tuple(landmarks), list(landmarks.values())

    @cached_property
    def _unreadable(self) -> dict[str, frozenset[str]]:
        path = self.root / UNREADABLE
        if not path.exists():
            return {}
        found: dict[str, set[str]] = {split: set() for split in SPLITS}
        for line, (split, image_id) in read_rows(path, ("split", "id"), advice=_HOW_TO_GET_DATA):
            if split not in found:
                raise bad_row(path, line, f"a split of {', '.join(SPLITS)}", split)
            found[split].add(image_id)
        return {split: frozenset(ids) for split, ids in found.items()}


def is_image_id(text: str) -> bool:
    """Whether a text is an image id of the data set: 16 hexadecimal digits, so that it can be a part of a path."""
    return _IMAGE_ID.fullmatch(text) is not None


def _check_new_id(path: Path, line: int, image_id: str, seen: dict) -> None:
    if not is_image_id(image_id):
        raise bad_row(
            path,
            line,
            "an image id of 16 hexadecimal digits",
            image_id,
            "Photographs of other names become such a data set with `python -m retrieval.data.from_folder`.",
        )
    if image_id in seen:
        raise bad_row(path, line, "every image id once", f"{image_id} again")
