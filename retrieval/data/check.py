"""Decodes every image in a data set's tables and lists those that cannot be used."""

import argparse
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from tqdm import tqdm

from retrieval.data.csv_tables import write_rows
from retrieval.data.gldv2 import SPLITS, UNREADABLE, Gldv2
from retrieval.data.images import UnreadableImageError, clipping, decode, unfinished
from retrieval.data.sources import ImageSource, open_source
from zoo.arguments import given_path, ranged
from zoo.command import log, run
from zoo.errors import DataError, OutputError
from zoo.files import new_file
from zoo.inputs import real_path
from zoo.strict import Count

SHOWN_PER_SPLIT = 10
_MOST_THREADS = 256


def check_data(root: Path, *, workers: int) -> tuple[Path | None, dict[str, int]]:
    """Writes `<root>/unreadable.csv` (split, id, reason), replacing an older one atomically.

    Only training images that training uses are checked: with `train_clean.csv`, the others are not. A split without a table
    is skipped.

    Returns:
        The path written, or None if the folder is read-only and every image is readable; and the number of unreadable images of each split that was checked.

    Raises:
        DataError: no split has a table, a row does not parse, or a tar cannot be used.
        OutputError: the file is needed and cannot be written.
    """
    dataset = Gldv2(root)
    splits = [split for split in SPLITS if dataset.table_path(split).exists()]
    if not splits:
        expected = ", ".join(f"{split}.csv" for split in SPLITS)
        raise DataError(
            f"{dataset.root} holds none of {expected}; expected a data set in the layout of Google Landmarks v2. "
            "Make a small one with `python -m retrieval.demo --out DIR`."
        )
    named = {split: dataset.named_ids(split) for split in splits}  # all tables are read before the first image
    path = dataset.root / UNREADABLE
    counts: dict[str, int] = {}

    def rows() -> Iterator[tuple[str, str, str]]:
        yield "split", "id", "reason"
        for split, ids in named.items():
            reasons: Counter[str] = Counter()
            clipped: Counter[str] = Counter()
            source = open_source(dataset, split)
            for image_id, finding in _findings(source, split, ids, workers):
                kind = reasons if finding.unreadable else clipped
                kind[finding.reason] += 1
                if kind.total() <= SHOWN_PER_SPLIT:
                    log(f"{source.place(image_id)}: {finding.reason}")
                if finding.unreadable:
                    yield split, image_id, finding.reason
            counts[split] = reasons.total()
            log(f"{split}: {len(ids):,} images, {counts[split]:,} unreadable{_summary(reasons)}")
            if clipped:
                log(
                    f"{split}: {clipped.total():,} images are kept but lose their bright parts, here as in the contest's "
                    f"scorer{_summary(clipped)}. Convert them to 8 bits per channel."
                )

    written = os.access(dataset.root, os.W_OK)
    if written:
        with new_file(path) as partial:
            write_rows(partial, rows())
    elif len(found := list(rows())) > 1:
        raise OutputError(
            f"{len(found) - 1:,} images are unreadable, and {path} cannot be written: the folder is read-only. Check a folder of "
            f"links to it: `mkdir LINKS && ln -s {shlex.quote(str(real_path(dataset.root)))}/* LINKS && "
            f"rm -f LINKS/{UNREADABLE}`, then pass --data LINKS here and to the other commands."
        )
    else:
        log(f"{dataset.root} is read-only, and every image is readable: {UNREADABLE} is not needed")
    if missing := [split for split in SPLITS if split not in splits]:
        log(
            f"there is no {' and no '.join(f'{split}.csv' for split in missing)}: these splits were not checked. Training needs "
            "train.csv or train_clean.csv; searching needs index.csv and test.csv, which come apart from the images "
            "(https://github.com/cvdfoundation/google-landmark)."
        )
    return path if written else None, counts


@dataclass(frozen=True)
class _Finding:
    """What is wrong with an image; one that is readable is only reported."""

    reason: str
    unreadable: bool


def _findings(source: ImageSource, split: str, ids: tuple[str, ...], workers: int) -> Iterator[tuple[str, _Finding]]:
    def finding(image_id: str) -> _Finding | None:
        place = source.place(image_id)
        try:
            data = source.read(image_id)
            decode(data, place)
            reason = clipping(data, place)
            if stopped := unfinished(data):
                return _Finding(stopped, unreadable=True)
        except UnreadableImageError as error:
            return _Finding(error.reason, unreadable=True)
        return _Finding(reason, unreadable=False) if reason else None

    with ThreadPool(min(workers, _MOST_THREADS)) as pool:
        findings = pool.imap(finding, ids, chunksize=16)
        for image_id, found in zip(ids, tqdm(findings, split, len(ids), unit="image"), strict=True):
            if found:
                yield image_id, found


def _summary(reasons: Counter[str]) -> str:
    if not reasons:
        return ""
    return ": " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))


def main() -> None:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.data.check",
        description="python -m retrieval.data.check --data gldv2\n\n"
        "Decodes every image that the tables name and writes DIR/unreadable.csv (split, id, reason).\n"
        "Training and the index leave out what stands there. The exit status is 0 even if images are unreadable.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=given_path, required=True, metavar="DIR", help="root of the data set")
    parser.add_argument(
        "--workers", type=ranged(Count), default=os.cpu_count(), help="decoding threads (default: one per core)"
    )
    arguments = parser.parse_args()
    path, counts = check_data(arguments.data, workers=max(1, arguments.workers))
    if counts.get("test"):
        log("queries are never left out: mAP@100 is a mean over all of them, and one that cannot be read counts 0")
    if path is not None:
        print(path)


if __name__ == "__main__":
    run(main)
