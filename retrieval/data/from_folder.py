"""One folder of photographs per class → a data set in the Google Landmarks v2 layout.

Example:
    python -m retrieval.data.from_folder my-photographs --out DATA
    python -m pipeline --data DATA --recipe recipes/photographs.yaml --out runs/mine

`my-photographs/<class>/` may hold files of any name, at any depth, in any format that Pillow reads. A photograph's id is a hash
of its bytes: the same on every machine, and a copy of a photograph is found whatever it is called. Files are hard links if
the file system allows it, else copies; they keep their bytes, and image readers look at these and not at the suffix `.jpg`.
"""

import argparse
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from retrieval.data.csv_tables import write_rows
from retrieval.data.gldv2 import LANDMARK_TABLES, Gldv2
from retrieval.data.images import UnreadableImageError, read_image
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.errors import DataError
from zoo.files import new_folder, output_folder
from zoo.inputs import real_path, require_folder
from zoo.strict import Fraction, Seed

INDEX_LABELS, NAMES = LANDMARK_TABLES[1]
"""Index image → landmark id, and landmark id → class name."""
SHOWN = 10


@dataclass(frozen=True)
class Shares:
    """How photographs are split.

    Attributes:
        index: share of each class's photographs that is searched.
        queries: share of each class's photographs that is searched for.
        unseen: share of the classes that are not trained on, so that scores also measure new classes.
    """

    index: float = 0.3
    queries: float = 0.15
    unseen: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.index < 1 and 0 < self.queries < 1 and self.index + self.queries < 1 and 0 <= self.unseen < 1):
            raise DataError(
                f"expected shares between 0 and 1 with index + queries below 1, found index {self.index}, queries "
                f"{self.queries}, unseen {self.unseen}"
            )


@dataclass
class Split:
    """Photographs of a new data set: {id: file} of each split, and the landmark of each id."""

    train: dict[str, Path] = field(default_factory=dict)
    index: dict[str, Path] = field(default_factory=dict)
    test: dict[str, Path] = field(default_factory=dict)
    landmarks: dict[str, int] = field(default_factory=dict)


def from_folder(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    shares: Shares | None = None,
    seed: int = 0,
    copy: bool = False,
    overwrite: bool = False,
) -> dict[str, int]:
    """Makes the data set atomically.

    Args:
        source: a folder with one sub-folder per class.
        out: the data set to make.
        shares: how photographs are split.
        seed: of the split, which depends on nothing but the seed, the classes' names and the photographs' bytes.
        copy: copy the files even if they could be linked.
        overwrite: replace `out` if it holds something.

    Returns:
        {"classes", "train", "index", "test", "duplicates", "unreadable"}: how many of each.

    Raises:
        DataError: a negative seed, no sub-folders, or fewer than two classes with at least two photographs.
        OutputError: `out` holds something, holds `source`, or cannot be written.
    """
    if seed < 0:
        raise DataError(f"expected a seed of 0 or more, found {seed}")
    source = Path(source)
    with output_folder(out, [source], overwrite=overwrite):
        classes, duplicates, unreadable = _read_classes(source)
        split = _split(classes, shares or Shares(), seed)
        with new_folder(out, overwrite=overwrite) as folder:
            dataset = Gldv2(folder)
            for name, photographs in (("train", split.train), ("index", split.index), ("test", split.test)):
                for image_id, file in photographs.items():
                    link_or_copy(file, dataset.image_path(name, image_id), copy=copy)
            _write_tables(folder, split, list(classes))
        counts = {
            "classes": len(classes),
            "train": len(split.train),
            "index": len(split.index),
            "test": len(split.test),
        }
        return counts | {"duplicates": duplicates, "unreadable": unreadable}


def _read_classes(source: Path) -> tuple[dict[str, dict[str, Path]], int, int]:
    """{class: {id: file}}, classes and ids in order; how many files were duplicates, and how many unreadable."""
    require_folder(source, "a folder with one sub-folder of photographs per class", DataError)
    entries = sorted(source.iterdir())
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        raise DataError(f"{source}: expected a folder with one sub-folder of photographs per class, found none.")
    owner: dict[str, Path] = {}
    classes: dict[str, dict[str, Path]] = {}
    problems: list[str] = []
    duplicates = 0
    for folder in tqdm(folders, "reading", unit="class"):
        found = {}
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
            try:
                read_image(file)
            except UnreadableImageError as error:
                problems.append(f"{file}: {error.reason}")
                continue
            with open(file, "rb") as content:
                image_id = hashlib.file_digest(content, "sha256").hexdigest()[:16]
            if image_id in owner:
                duplicates += 1
                log(f"{file} is the same photograph as {owner[image_id]}, and is left out")
                continue
            owner[image_id] = file
            found[image_id] = file
        classes[folder.name] = dict(sorted(found.items()))
    for problem in problems[:SHOWN]:
        log(f"left out: {problem}")
    if len(problems) > SHOWN:
        log(f"left out: {len(problems) - SHOWN} more files")
    usable = {name: found for name, found in classes.items() if len(found) >= 2}
    for name in (name for name in classes if name not in usable):
        log(f"left out: the class {name!r} has {len(classes[name])} readable photographs; at least 2 are needed")
    if len(usable) < 2:
        raise DataError(f"{source}: expected at least two classes of two readable photographs, found {len(usable)}.")
    return usable, duplicates, len(problems)


def _split(classes: dict[str, dict[str, Path]], shares: Shares, seed: int) -> Split:
    """Every class has at least one photograph in the index and one query; a class that is trained on has the rest."""
    split, generator = Split(), np.random.default_rng(seed)
    unseen = {int(n) for n in generator.permutation(len(classes))[: round(shares.unseen * len(classes))]}
    for landmark, photographs in enumerate(classes.values()):
        ids = [list(photographs)[position] for position in generator.permutation(len(photographs))]
        share = shares.queries / (shares.queries + shares.index) if landmark in unseen else shares.queries
        queries = min(max(1, round(share * len(ids))), len(ids) - 1)
        rest = len(ids) - queries
        index = rest if landmark in unseen else min(max(1, round(shares.index * len(ids))), rest)
        parts = (ids[:queries], ids[queries : queries + index], ids[queries + index :])
        for target, own in zip((split.test, split.index, split.train), parts, strict=True):
            target.update({image_id: photographs[image_id] for image_id in own})
        split.landmarks.update(dict.fromkeys(ids, landmark))
    return split


def link_or_copy(file: Path, target: Path, *, copy: bool) -> None:
    """Makes `target` a hard link to a file if the file system allows it and `copy` is off, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(real_path(file), target)
            return
        except OSError:  # another file system, or one without hard links
            pass
    shutil.copyfile(file, target)


def _write_tables(folder: Path, split: Split, names: Sequence[str]) -> None:
    train, index, test = (sorted(ids) for ids in (split.train, split.index, split.test))
    of_landmark: dict[int, list[str]] = {}
    for image_id in train:
        of_landmark.setdefault(split.landmarks[image_id], []).append(image_id)
    relevant: dict[int, list[str]] = {}
    for image_id in index:
        relevant.setdefault(split.landmarks[image_id], []).append(image_id)
    write_rows(folder / "train.csv", [("id", "landmark_id"), *((i, split.landmarks[i]) for i in train)])
    clean = [(landmark, " ".join(ids)) for landmark, ids in sorted(of_landmark.items())]
    write_rows(folder / "train_clean.csv", [("landmark_id", "images"), *clean])
    write_rows(folder / "index.csv", [("id",), *((i,) for i in index)])
    write_rows(folder / INDEX_LABELS, [("id", "landmark_id"), *((i, split.landmarks[i]) for i in index)])
    write_rows(folder / "test.csv", [("id",), *((i,) for i in test)])
    # GLDv2 scores a third of its queries publicly.
    truth = [
        (i, " ".join(relevant[split.landmarks[i]]), "Private" if number % 3 else "Public")
        for number, i in enumerate(test)
    ]
    write_rows(folder / Gldv2(folder).solution_path.name, [("id", "images", "Usage"), *truth])
    write_rows(folder / NAMES, [("landmark_id", "category"), *enumerate(map(_as_text, names))])


def _as_text(name: str) -> str:
    """A folder's name as UTF-8 can write it: bytes in another encoding become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=given_path, metavar="DIR", help="one sub-folder per class")
    parser.add_argument("--out", required=True, type=given_path, help="the data set to make")
    parser.add_argument(
        "--index", type=ranged(Fraction), default=Shares.index, help="share of the index; default: %(default)s"
    )
    parser.add_argument(
        "--queries", type=ranged(Fraction), default=Shares.queries, help="share of queries; default: %(default)s"
    )
    parser.add_argument(
        "--unseen",
        type=ranged(Fraction),
        default=Shares.unseen,
        help="share of classes that are not trained on; default: %(default)s",
    )
    parser.add_argument("--seed", type=ranged(Seed), default=0, help="of the split; default: %(default)s")
    parser.add_argument("--copy", action="store_true", help="copy the files instead of linking them")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    given = parse_arguments()
    shares = Shares(given.index, given.queries, given.unseen)
    counts = from_folder(
        given.source, given.out, shares=shares, seed=given.seed, copy=given.copy, overwrite=given.overwrite
    )
    log(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    log(f"run `python -m pipeline --data {given.out} --recipe recipes/photographs.yaml --out runs/mine`")
    print(given.out)


if __name__ == "__main__":
    run(main)
