"""A data set's fingerprint: whether what was computed from it is still about the same images."""

import hashlib
from multiprocessing.pool import ThreadPool

from retrieval.data.gldv2 import Gldv2
from retrieval.data.sources import open_source

_AT_ONCE = 16
"""Threads that ask for sizes: on a network disk each answer takes long, and no processor time."""


def fingerprint(dataset: Gldv2, split: str, *, times: bool = False) -> str:
    """Hexadecimal sha256 of a split: its table, its images that `unreadable.csv` leaves out, and the size in bytes of every
    image that the table names: the same whether they are files or in tars.

    The pixels are not read, so that it takes at most a minute per million images on a local disk. Another image of exactly
    the same size in bytes is noticed only by its time. For "test" the solution counts too.

    Args:
        dataset: the data set.
        split: "train", "index" or "test".
        times: count the times of the images' last changes too, or their tars'. They notice every change, but a copy of the
            data set may have others.

    Raises:
        DataError: the split's table is missing or does not parse, or a tar cannot be used.
    """
    return _digests(dataset, split, (times,))[0]


def fingerprints(dataset: Gldv2, split: str) -> tuple[str, str]:
    """`fingerprint` without times and with them, from one pass over the images."""
    without, with_times = _digests(dataset, split, (False, True))
    return without, with_times


def _digests(dataset: Gldv2, split: str, kinds: tuple[bool, ...]) -> list[str]:
    """A digest for each of `kinds`, which say whether the times count."""
    head = bytearray()
    for path in [dataset.table_path(split)] + [dataset.solution_path] * (split == "test"):
        content = path.read_bytes() if path.exists() else b""
        head += f"{path.name} {len(content)}\n".encode() + content
    head += " ".join(sorted(dataset.unreadable(split))).encode() + b"\n"
    digests = [hashlib.sha256(head) for _ in kinds]
    source = open_source(dataset, split)

    def known(image_id: str) -> tuple[int | None, int | None]:
        return source.size(image_id), source.changed(image_id) if any(kinds) else None

    with ThreadPool(_AT_ONCE) as pool:
        for found in pool.imap(known, dataset.named_ids(split), chunksize=256):
            size, changed = (-1 if number is None else number for number in found)
            for times, digest in zip(kinds, digests, strict=True):
                digest.update(f"{size} {changed}\n".encode() if times else f"{size}\n".encode())
    return [digest.hexdigest() for digest in digests]
