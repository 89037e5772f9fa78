"""A data set's fingerprint: whether what was computed from it is still about the same images."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from retrieval.data.gldv2 import Gldv2

_AT_ONCE = 16
"""Threads that ask for sizes: on a network disk each answer takes long, and no processor time."""


def fingerprint(dataset: Gldv2, split: str, *, times: bool = False) -> str:
    """Hexadecimal sha256 of a split: its table, its images that `unreadable.csv` leaves out, and the size in bytes of every
    image that the table names.

    The pixels are not read, so that it takes at most a minute per million images on a local disk. Another image of exactly
    the same size in bytes is noticed only by its time. For "test" the solution counts too.

    Args:
        dataset: the data set.
        split: "train", "index" or "test".
        times: count the times of the images' last changes too. They notice every change, but a copy of the data set may
            have others.

    Raises:
        DataError: the split's table is missing or does not parse.
    """
    digest = hashlib.sha256()
    for path in [dataset.table_path(split)] + [dataset.solution_path] * (split == "test"):
        content = path.read_bytes() if path.exists() else b""
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    digest.update(" ".join(sorted(dataset.unreadable(split))).encode() + b"\n")
    paths = [str(dataset.image_path(split, image_id)) for image_id in dataset.named_ids(split)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for size, changed in pool.map(_stat, paths, chunksize=256):
            digest.update(f"{size} {changed}\n".encode() if times else f"{size}\n".encode())
    return digest.hexdigest()


def _stat(path: str) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds; -1 for a file that is missing."""
    try:
        found = os.stat(path)  # noqa: PTH116  (millions of paths, as text)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
