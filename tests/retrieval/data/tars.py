"""A data set as it is published: its images in tars."""

import shutil
import tarfile
from pathlib import Path

from retrieval.data.gldv2 import SPLITS


def as_tars(root: Path, out: Path) -> Path:
    """A copy of the data set `root` at `out`, with the images of each split in one tar; returns `out`."""
    out.mkdir()
    for table in root.glob("*.csv"):
        shutil.copy(table, out)
    for split in (split for split in SPLITS if (root / split).is_dir()):
        (out / split).mkdir()
        with tarfile.open(out / split / "images_000.tar", "w") as tar:
            tar.add(root / split, split)
    return out
