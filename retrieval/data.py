"""Reads a data set in the layout of Google Landmarks v2 and makes training batches of it.

Layout: `<root>/<split>/a/b/c/<id>.jpg`, where split is train, index or test, id is 16 hexadecimal digits and a, b, c
are its first three; the tables (`train.csv`, `train_clean.csv`, `index.csv`, `test.csv`,
`retrieval_solution_v2.1.csv`) lie in the root. Source: https://github.com/cvdfoundation/google-landmark.

Nobody publishes a list of GLDv2's damaged images, so `retrieval.check_data` writes one for the copy at hand:
`<root>/unreadable.csv`. What stands there is left out of `train()` and `index_ids()`. Queries are never left out, since
mAP@100 is a mean over all of them: whoever embeds may skip `unreadable("test")`, and the metric then counts those
queries as 0. The relevant images of a query stay as they are too, so damage can only lower a score.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from zoo.errors import DataError

SPLITS = ("train", "index", "test")
UNREADABLE = "unreadable.csv"
PREFETCHED_BATCHES = 3
CROP_ATTEMPTS = 10
LOG_ASPECT = (np.log(3 / 4), np.log(4 / 3))
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601 weights of red, green and blue, as in PIL's convert("L")."""

_IMAGE_ID = re.compile(r"[0-9a-f]{16}")
_LONGEST_FIELD = 1 << 26  # GLDv2-clean's largest landmark has over 10,000 ids in one field; csv's own limit is 131,072

_HOW_TO_GET_DATA = (
    "Point to a copy of GLDv2 (https://github.com/cvdfoundation/google-landmark), "
    "or make a small set with `python -m retrieval.demo_data --out DIR`."
)


class UnreadableImageError(DataError):
    """An image file that is missing or cannot be decoded whole; `reason` says why without naming the file."""

    def __init__(self, path: Path, reason: str):
        self.reason = reason
        super().__init__(
            f"{path}: {reason}; expected a whole image that PIL can decode. "
            "Next: `python -m retrieval.check_data --data DIR` lists every such image, so that training skips them."
        )


@dataclass(frozen=True, eq=False)
class TrainSet:
    """The labelled images.

    Attributes:
        ids: n image ids, in the order of the table.
        labels: int64 [n], the class index of each image.
        landmark_ids: landmark id of each class index, ascending. It depends on the table alone and not on
            `unreadable.csv`, so that a checkpoint's classes keep their meaning after `retrieval.check_data` has run.
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
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; expected the root of a data set. {_HOW_TO_GET_DATA}")

    def train(self) -> TrainSet:
        """The images of `train_clean.csv` where it exists, else of `train.csv`, without the unreadable ones."""
        ids, landmarks = self._train_rows
        landmark_ids, labels = np.unique(np.asarray(landmarks, np.int64), return_inverse=True)
        bad = self.unreadable("train")
        kept = np.array([image_id not in bad for image_id in ids], bool)
        return TrainSet(
            ids=tuple(image_id for image_id in ids if image_id not in bad),
            labels=labels.astype(np.int64)[kept],
            landmark_ids=tuple(landmark_ids.tolist()),
        )

    def index_ids(self) -> tuple[str, ...]:
        """The ids of `index.csv`, in its order, without the unreadable ones."""
        return self.readable_ids("index")

    def query_ids(self) -> tuple[str, ...]:
        """All ids of `test.csv`, in its order."""
        return self.named_ids("test")

    def named_ids(self, split: str) -> tuple[str, ...]:
        """Every id that the split's table names, readable or not."""
        if split == "train":
            return self._train_rows[0]
        path = self.table_path(split)
        ids: dict[str, None] = {}
        for line, (image_id,) in _rows(path, ("id",)):
            _check_new_id(path, line, image_id, ids)
            ids[image_id] = None
        return tuple(ids)

    def readable_ids(self, split: str) -> tuple[str, ...]:
        """Every id that the split's table names but those known to be unreadable: what can be embedded."""
        bad = self.unreadable(split)
        return tuple(image_id for image_id in self.named_ids(split) if image_id not in bad)

    def unreadable(self, split: str) -> frozenset[str]:
        """The ids that `retrieval.check_data` found missing or damaged; empty when it has not run."""
        return self._unreadable.get(split, frozenset())

    def table_path(self, split: str) -> Path:
        """The table that names the split's images."""
        clean = self.root / "train_clean.csv"
        return clean if split == "train" and clean.exists() else self.root / f"{split}.csv"

    def image_path(self, split: str, image_id: str) -> Path:
        """`<root>/<split>/a/b/c/<id>.jpg`, whether or not the file exists."""
        return self.root.joinpath(split, *image_id[:3], f"{image_id}.jpg")

    @property
    def solution_path(self) -> Path:
        """The ground truth of the queries: id, images, Usage."""
        return self.root / "retrieval_solution_v2.1.csv"

    @cached_property
    def _train_rows(self) -> tuple[tuple[str, ...], list[int]]:
        path = self.table_path("train")
        clean = path.name == "train_clean.csv"
        landmarks: dict[str, int] = {}
        for line, (field, landmark) in _rows(path, ("images" if clean else "id", "landmark_id")):
            if not landmark.isdecimal():
                raise _bad_row(path, line, "an integer landmark_id", landmark)
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
        for line, (split, image_id) in _rows(path, ("split", "id")):
            if split not in found:
                raise _bad_row(path, line, f"a split of {', '.join(SPLITS)}", split)
            found[split].add(image_id)
        return {split: frozenset(ids) for split, ids in found.items()}


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the named columns of each row that is not blank."""
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if missing := [column for column in columns if column not in header]:
                raise _bad_row(path, 1, f"a header with column {missing[0]!r}", ",".join(header))
            wanted = [header.index(column) for column in columns]
            for row in reader:
                if row and len(row) != len(header):
                    raise _bad_row(path, reader.line_num, f"{len(header)} fields", f"{len(row)} in {','.join(row)}")
                if row:
                    yield reader.line_num, [row[position] for position in wanted]
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing; expected a table with the columns {', '.join(columns)}. {_HOW_TO_GET_DATA}"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable UTF-8 CSV file: {error}. {_HOW_TO_GET_DATA}") from error


def _check_new_id(path: Path, line: int, image_id: str, seen: dict) -> None:
    if not _IMAGE_ID.fullmatch(image_id):
        raise _bad_row(path, line, "an image id of 16 hexadecimal digits", image_id)
    if image_id in seen:
        raise _bad_row(path, line, "every image id once", f"{image_id} again")


def _bad_row(path: Path, line: int, expected: str, found: str) -> DataError:
    found = found if len(found) <= 80 else found[:77] + "..."
    return DataError(
        f"{path}, line {line}: expected {expected}, found {found!r}. Mend the line, or fetch the file anew."
    )


def read_image(path: Path) -> np.ndarray:
    """The image as the contest's scorer reads it: uint8 [H, W, 3] RGB, without EXIF rotation.

    Raises:
        UnreadableImageError: the file is missing, cut short, not an image, or too large to be decoded safely.
    """
    # Another library may have switched this on; half a photograph over grey would then pass for a whole one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise UnreadableImageError(path, "no such file") from None
    except Image.UnidentifiedImageError:
        raise UnreadableImageError(path, "not an image") from None
    except Exception as error:  # PIL's decoders meet broken bytes with nearly every built-in exception
        raise UnreadableImageError(path, str(error) or type(error).__name__) from error


def augment(
    image: np.ndarray,
    size: int,
    rng: np.random.Generator,
    crop_area: tuple[float, float],
    flip: bool,
    jitter: float,
) -> np.ndarray:
    """A random-resized crop with mirroring and colour jitter, after Szegedy et al. 2015 (arXiv:1409.4842).

    Args:
        image: uint8 [H, W, 3].
        size: side of the result in pixels.
        rng: the only source of chance.
        crop_area: least and greatest share of the image's area; the aspect ratio is log-uniform in 3/4 … 4/3.
        flip: mirror left and right with probability 0.5.
        jitter: brightness, contrast and saturation are each scaled by a factor uniform in 1 ± jitter.

    Returns:
        uint8 [size, size, 3].
    """
    box = _random_box(image.shape[1], image.shape[0], rng, crop_area)
    crop = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box)
    if flip and rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if not jitter:
        return np.array(crop)
    brightness, contrast, saturation = rng.uniform(1 - jitter, 1 + jitter, 3).astype(np.float32)
    pixels = np.asarray(crop, np.float32) * brightness
    grey = pixels @ LUMA
    pixels = saturation * pixels + (1 - saturation) * grey[..., None]
    pixels = contrast * pixels + (1 - contrast) * grey.mean()
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _random_box(
    width: int, height: int, rng: np.random.Generator, area: tuple[float, float]
) -> tuple[int, int, int, int]:
    for _ in range(CROP_ATTEMPTS):
        pixels = width * height * rng.uniform(*area)
        aspect = np.exp(rng.uniform(*LOG_ASPECT))
        w, h = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    # A very long image may have no such crop: the largest central one with the nearest allowed aspect ratio.
    low, high = np.exp(LOG_ASPECT)
    w, h = max(1, min(width, round(height * high))), max(1, min(height, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def batches_per_epoch(train_set: TrainSet, batch_size: int) -> int:
    """Whole batches in an epoch; the incomplete last one is dropped.

    Raises:
        DataError: the set is smaller than one batch.
    """
    if len(train_set.ids) < batch_size:
        raise DataError(
            f"the training set has {len(train_set.ids)} readable images; expected at least one batch of {batch_size}. "
            "Lower batch_size in the recipe, or see the data set's unreadable.csv."
        )
    return len(train_set.ids) // batch_size


def training_batches(
    root: Path,
    train_set: TrainSet,
    *,
    batch_size: int,
    size: int,
    seed: int,
    epoch: int,
    crop_area: tuple[float, float],
    flip: bool,
    jitter: float,
    start: int = 0,
    workers: int = 2,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch from number `start` on, decoded ahead by `workers` threads.

    Order and augmentation are functions of (seed, epoch, position in the epoch) alone: a run resumed at batch `start`
    sees the same bytes as one that was never interrupted, whatever the number of workers.

    Yields:
        Images uint8 [batch_size, size, size, 3] and class indices int64 [batch_size].

    Raises:
        DataError: the set is smaller than one batch, or `start` lies outside the epoch; while iterating
            (`UnreadableImageError`): an image cannot be read.
    """
    count = batches_per_epoch(train_set, batch_size)
    if not 0 <= start <= count:
        raise DataError(
            f"batch {start} was asked for; expected 0 to {count}, the epoch's batches of {batch_size}. "
            "Has the data set changed since the checkpoint was written? If so, train anew."
        )
    dataset = Gldv2(root)

    def generator(*key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, *key)))

    order = generator().permutation(len(train_set.ids))

    def load(position: int) -> np.ndarray:
        image = read_image(dataset.image_path("train", train_set.ids[order[position]]))
        return augment(image, size, generator(position), crop_area, flip, jitter)

    def collect(images: list[Future], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([image.result() for image in images]), labels

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # The threads only ever run submitted work, never wait for the consumer: nothing can be left blocked.
        pool = ThreadPoolExecutor(workers, thread_name_prefix="training-batches")
        ahead: deque = deque()
        try:
            for number in range(start, count):
                chosen = slice(number * batch_size, (number + 1) * batch_size)
                images = [pool.submit(load, position) for position in range(chosen.start, chosen.stop)]
                ahead.append((images, train_set.labels[order[chosen]]))
                if len(ahead) > PREFETCHED_BATCHES:
                    yield collect(*ahead.popleft())
            while ahead:
                yield collect(*ahead.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    return batches()
