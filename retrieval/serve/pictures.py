"""The data set's photographs as small JPEG files for the page: by row number, never by path."""

import functools
import hashlib
from collections.abc import Sequence

from PIL import ImageOps

from retrieval.data.gldv2 import Gldv2, is_image_id
from retrieval.data.images import UnreadableImageError, open_bytes
from retrieval.data.sources import ImageSource, open_source
from retrieval.serve.photographs import as_jpeg
from retrieval.solution import read_retrieval_solution
from zoo.errors import DataError

SMALL, LARGE = 320, 1280
"""Longest sides in pixels: of a hit, and enlarged."""
EXAMPLES = 8
_KEPT = 2048
"""Small pictures that are kept in memory; one has about 20 KB."""
_TRIED = 64


class Pictures:
    """The photographs of some images of a split. May be called from several threads.

    Args:
        source: the split's images.
        ids: of the images, in the order of the rows.
    """

    def __init__(self, source: ImageSource, ids: Sequence[str]) -> None:
        self._source, self._ids = source, ids
        self._small = functools.lru_cache(_KEPT)(lambda row, tag: self._made(row, side=SMALL))

    def __len__(self) -> int:
        return len(self._ids)

    def picture(self, row: int, side: int = SMALL) -> bytes:
        """A JPEG file, at most `side` pixels wide and high.

        Raises:
            UnreadableImageError: the image is missing or cannot be decoded.
        """
        return self._small(row, self.tag(row, SMALL)) if side == SMALL else self._made(row, side=side)

    def photograph(self, row: int) -> bytes:
        """The bytes of an image's file. Errors as of `picture`."""
        return self._source.read(self._named(row))

    def tag(self, row: int, side: int) -> str | None:
        """Text that changes when a picture does, for the browser's cache; None if the image is missing."""
        try:
            image_id = self._named(row)
        except UnreadableImageError:
            return None
        changed = self._source.changed(image_id)
        if changed is None:
            return None
        return hashlib.sha256(f"{self._source.place(image_id)} {changed} {side}".encode(errors="replace")).hexdigest()[
            :20
        ]

    def require_some(self, place: object) -> None:
        """Raises `DataError` if no image of a sample exists: the data set is another one."""
        step = max(1, len(self) // _TRIED)
        if not any(self.tag(row, SMALL) for row in range(0, len(self), step)):
            raise DataError(
                f"{place} has none of the store's images, such as {self._ids[0]!r}; expected the data set that the store was made "
                "from. Pass another --data, or none: ids are shown then."
            )

    def _named(self, row: int) -> str:
        image_id = self._ids[row]
        if not is_image_id(image_id):  # it becomes a part of a path
            raise UnreadableImageError(repr(image_id), "not an id of 16 hexadecimal digits")
        return image_id

    def _made(self, row: int, *, side: int) -> bytes:
        image_id = self._named(row)
        with open_bytes(self._source.read(image_id), image_id) as image:
            image.draft("RGB", (side, side))  # a JPEG is decoded at half, a quarter or an eighth of its size
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((side, side), reducing_gap=2)
            return as_jpeg(small)


def index_pictures(dataset: Gldv2, split: str, ids: Sequence[str]) -> Pictures:
    """The photographs of an index.

    Raises:
        DataError: the data set is another one, or its tars cannot be used.
    """
    pictures = Pictures(open_source(dataset, split), ids)
    pictures.require_some(dataset.root / split)
    return pictures


def example_pictures(dataset: Gldv2) -> Pictures | None:
    """Some queries of a data set to try, of those that are scored if that is known; None if it has none.

    Raises:
        DataError: a table does not parse, or the tars cannot be used.
    """
    if dataset.solution_path.exists():
        ids = tuple(read_retrieval_solution(dataset.solution_path).everything)
    elif dataset.table_path("test").exists():
        ids = dataset.named_ids("test")
    else:
        return None
    source = open_source(dataset, "test")
    step = max(1, len(ids) // EXAMPLES)
    chosen = [image_id for image_id in ids[::step] if source.size(image_id) is not None][:EXAMPLES]
    return Pictures(source, chosen) if chosen else None
