"""`landmark-zoo data check`, `data from-folder`, `data shrink` and `data render`."""

from pathlib import Path

from landmark_zoo.commands import Count, Flag, Fraction, Pixels, Seed
from zoo.command import log


def check(*, data: Path, workers: Count | None = None) -> None:
    """Decode every image that the tables name, and write DATA/unreadable.csv. Training and the index leave those out.

    Args:
        data: root of the data set.
        workers: decoding threads; default: one per core.
    """
    import os

    from retrieval.data.check import check_data

    path, counts = check_data(data, workers=max(1, workers or os.cpu_count() or 1))
    if counts.get("test"):
        log("queries are never left out: mAP@100 is a mean over all of them, and one that cannot be read counts 0")
    if path is not None:
        print(path)


def from_folder(
    source: Path,
    /,
    *,
    out: Path,
    index: Fraction = 0.3,
    queries: Fraction = 0.15,
    unseen: Fraction = 0.25,
    seed: Seed = 0,
    copy: Flag = False,
    overwrite: Flag = False,
) -> None:
    """Turn one folder of photographs per class, with any file names, into the layout of Google Landmarks v2.

    Args:
        source: a folder with one sub-folder per class.
        out: the data set to make.
        index: share of each class's photographs that is searched.
        queries: share of each class's photographs that is searched for.
        unseen: share of the classes that are not trained on.
        seed: of the split.
        copy: copy the files instead of linking them.
        overwrite: replace the folder if it holds something.
    """
    from retrieval.data import from_folder as folders

    shares = folders.Shares(index, queries, unseen)
    counts = folders.from_folder(source, out, shares=shares, seed=seed, copy=copy, overwrite=overwrite)
    log(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    log(f"train with `--data {out}`")
    print(out)


def shrink(*, data: Path, out: Path, side: Pixels = 256, workers: Count | None = None, overwrite: Flag = False) -> None:
    """Copy a data set with smaller images, which training decodes several times faster. If interrupted, it continues.

    Args:
        data: root of the data set, with its images as files or in tars.
        out: the data set to make.
        side: shorter side in pixels, at most; smaller images are copied as they are.
        workers: decoding threads; default: one per core.
        overwrite: replace the folder if it holds something.
    """
    import os
    import time

    from retrieval.data import shrink as copies

    began = time.monotonic()
    counts = copies.shrink(data, out, side=side, workers=workers or os.cpu_count() or 1, overwrite=overwrite)
    log(copies.summary(counts, time.monotonic() - began))
    print(out)


def render(*, out: Path, seed: Seed = 0, overwrite: Flag = False) -> None:
    """Draw 872 small photographs of made-up landmarks in the layout of Google Landmarks v2.

    Args:
        out: new or empty folder.
        seed: another seed gives other landmarks.
        overwrite: replace the folder's content once the new set is complete.
    """
    from retrieval.demo.dataset import write_demo_data
    from zoo.files import new_folder

    with new_folder(out, overwrite=overwrite) as folder:
        write_demo_data(folder, seed=seed)
    log(f"train with `--data {out}`")
    print(out)
