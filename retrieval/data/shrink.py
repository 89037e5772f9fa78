"""A copy of a data set with smaller images, which training decodes several times faster.

Example:
    python -m retrieval.data.shrink --data gldv2 --out gldv2-256 --side 256

The shorter side of the copy's images is at most --side pixels; smaller ones are copied byte for byte. The copy has the layout and
the tables of the data set, with its images as files even if they come from tars. Damaged images, and those that the data set's
unreadable.csv lists, are left out and listed in the copy's unreadable.csv. If interrupted, run the same command again: it continues.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

from PIL import Image
from tqdm import tqdm

from retrieval.data.csv_tables import write_rows
from retrieval.data.fingerprint import fingerprint
from retrieval.data.gldv2 import SPLITS, UNREADABLE, Gldv2
from retrieval.data.images import UnreadableImageError, decode, unfinished
from retrieval.data.sources import ImageSource, open_source
from zoo.arguments import given_path, ranged
from zoo.claims import claimed
from zoo.command import log, run
from zoo.disk import disk_errors, output_errors
from zoo.errors import DataError
from zoo.files import new_folder, output_folder
from zoo.strict import Count, Pixels, require
from zoo.text import read_json

SIDE = 256
QUALITY = 95
"""Of the JPEG files, without chroma subsampling. On photographs halved to 128 pixels, a training crop then differs from that of the
original by 2.4 of 255 on average, of which 2.1 are the lost resolution; 3.2 with subsampling, in 17 % fewer bytes; 2.7 at quality 90,
in 26 % fewer."""
SHOWN = 10
_KEY = "key.json"
_MOST_THREADS = 256

Kind = Literal["made smaller", "copied", "damaged", "done before"]


def shrink(
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    side: int = SIDE,
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, int]:
    """Makes the copy, atomically: `out` appears when it is complete.

    What is finished is kept in `.<name>.parts` beside `out` until then. A mounted folder, or one whose parent may not be written, has
    no such place: an interrupted command begins anew there.

    Args:
        data: a data set in the Google Landmarks v2 layout, as files or in tars.
        out: the data set to make.
        side: the shorter side of the copy's images in pixels, at most.
        workers: decoding threads.
        overwrite: replace `out` if it holds something.

    Returns:
        How many images were "made smaller", "copied", "damaged" and, by an interrupted command, "done before".

    Raises:
        SpecError: `side` is out of range.
        DataError: no split has a table, a row does not parse, or a tar cannot be used.
        OutputError: `out` holds something, is or lies in `data`, or cannot be written.
    """
    require(Pixels, side, "side")
    dataset, out = Gldv2(Path(data)), Path(out)
    with output_folder(out, [dataset.root], overwrite=overwrite):
        splits = [split for split in SPLITS if dataset.table_path(split).exists()]
        if not splits:
            expected = ", ".join(f"{split}.csv" for split in SPLITS)
            raise DataError(
                f"{dataset.root} holds none of {expected}; expected a data set in the Google Landmarks v2 layout."
            )
        ids = {split: dataset.named_ids(split) for split in splits}  # all tables are read before the first image
        with _parts(out) as parts:
            _begin(parts, dataset, splits, side)
            counts: Counter[str] = Counter()
            damaged = [("split", "id", "reason")]
            for split in splits:
                for image_id, kind, reason in _copied(dataset, split, ids[split], Gldv2(parts), side, workers):
                    counts[kind] += 1
                    if kind == "damaged":
                        damaged.append((split, image_id, reason))
            _copy_tables(dataset, parts)
            if len(damaged) > 1:
                write_rows(parts / UNREADABLE, damaged)
            with new_folder(out, overwrite=overwrite) as folder:
                parts.rename(folder)
                (folder / _KEY).unlink()
    return {kind: counts[kind] for kind in ("made smaller", "copied", "damaged", "done before")}


@contextmanager
def _parts(out: Path) -> Iterator[Path]:
    """The folder that the copy grows in; it stays if the body raises, unless it is empty."""
    with claimed(out) as claim:
        kept = claim.place != claim.target
        folder = claim.target.with_name(f".{claim.target.name}.parts") if kept else claim.partial()
        with output_errors(out):
            folder.mkdir(exist_ok=True)
        try:
            with disk_errors(out, folder):
                yield folder
        except BaseException:
            if kept and any(path.is_dir() for path in folder.glob("*")):
                log(f"what is finished is kept in {folder}: the same command continues there")
            else:
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _begin(parts: Path, dataset: Gldv2, splits: Sequence[str], side: int) -> None:
    """Empties the folder if it was made from something else."""
    made_from = {
        "side": side,
        "quality": QUALITY,
        "images": {split: fingerprint(dataset, split, times=True) for split in splits},
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    try:
        if read_json(parts / _KEY) == {"sha256": key}:
            return
    except DataError:
        pass
    if any(parts.iterdir()):
        log(f"{parts} holds unfinished work of another data set or size: beginning anew")
        shutil.rmtree(parts)
        parts.mkdir()
    (parts / _KEY).write_text(json.dumps({"sha256": key}), encoding="utf-8")


def _copied(
    dataset: Gldv2, split: str, ids: Sequence[str], copy: Gldv2, side: int, workers: int
) -> Iterator[tuple[str, Kind, str]]:
    """Copies a split's images; yields each id, what was done, and the reason for a damaged one."""
    source, listed = open_source(dataset, split), dataset.unreadable(split)
    reasons: Counter[str] = Counter()

    def one(image_id: str) -> tuple[Kind, str]:
        if image_id in listed:
            return "damaged", f"listed in {UNREADABLE} of the original"
        target = copy.image_path(split, image_id)
        if _is_there(target):
            return "done before", ""
        try:
            content, kind = _smaller(source, image_id, side)
        except UnreadableImageError as error:
            return "damaged", error.reason
        _write(target, content)
        return kind, ""

    with ThreadPool(min(max(1, workers), _MOST_THREADS)) as pool:
        found = pool.imap(one, ids, chunksize=16)
        for image_id, (kind, reason) in zip(ids, tqdm(found, split, len(ids), unit="image"), strict=True):
            if kind == "damaged":
                reasons[reason] += 1
                if reasons.total() <= SHOWN:
                    log(f"left out: {source.place(image_id)}: {reason}")
            yield image_id, kind, reason
    if reasons.total() > SHOWN:
        log(f"left out: {reasons.total() - SHOWN:,} more images of {split}, all of which are in {UNREADABLE}")


def _smaller(source: ImageSource, image_id: str, side: int) -> tuple[bytes, Kind]:
    """An image's file with the shorter side at most `side`, and how it was made.

    Raises:
        UnreadableImageError: the image is missing or damaged.
    """
    data, place = source.read(image_id), source.place(image_id)
    image = Image.fromarray(decode(data, place))
    if stopped := unfinished(data):
        raise UnreadableImageError(place, stopped)
    if min(image.size) <= side:
        return data, "copied"
    factor = side / min(image.size)
    width, height = (max(side, round(edge * factor)) for edge in image.size)
    file = io.BytesIO()
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    resized.save(file, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return file.getvalue(), "made smaller"


def _is_there(path: Path) -> bool:
    """Whether a file is complete: it was renamed to its name, but a crash of the machine may have emptied it."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _write(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, which the next command for the same image uses again."""
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
    partial.replace(path)


def _copy_tables(dataset: Gldv2, parts: Path) -> None:
    """All tables in the data set's root but its list of unreadable images."""
    for path in sorted(dataset.root.glob("*.csv")):
        if path.name != UNREADABLE and path.is_file():
            shutil.copyfile(path, parts / path.name)


def summary(counts: dict[str, int], seconds: float) -> str:
    """What was done, and how fast."""
    new = counts["made smaller"] + counts["copied"]
    done = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    return f"{done}; {new / max(seconds, 1e-9):,.0f} images/s"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=given_path, required=True, metavar="DIR", help="root of the data set")
    parser.add_argument("--out", type=given_path, required=True, help="the data set to make")
    parser.add_argument(
        "--side", type=ranged(Pixels), default=SIDE, help="shorter side in pixels, at most; default: %(default)s"
    )
    parser.add_argument(
        "--workers", type=ranged(Count), default=os.cpu_count(), help="decoding threads (default: one per core)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it holds something")
    given = parser.parse_args()
    began = time.monotonic()
    counts = shrink(given.data, given.out, side=given.side, workers=given.workers, overwrite=given.overwrite)
    log(summary(counts, time.monotonic() - began))
    print(given.out)


if __name__ == "__main__":
    run(main)
