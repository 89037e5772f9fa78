"""Where the images of a split are: a tree of files, or the `.tar` files that the data set is published as."""

import os
import stat
from typing import Protocol

from retrieval.data.gldv2 import Gldv2
from retrieval.data.images import UnreadableImageError
from retrieval.data.tar_shards import TarImages
from zoo.errors import DataError
from zoo.limits import IMAGE_BYTES

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class ImageSource(Protocol):
    """The image files of a split, by id. All methods may be called from several threads."""

    def read(self, image_id: str) -> bytes:
        """The bytes of an image's file.

        Raises:
            UnreadableImageError: there is none, or it cannot be read.
        """
        ...

    def place(self, image_id: str) -> str:
        """Where an image is, for messages: a path, or `<tar>:<member>`."""
        ...

    def size(self, image_id: str) -> int | None:
        """Size of an image's file in bytes; None if there is none."""
        ...

    def changed(self, image_id: str) -> int | None:
        """When what holds the image was last changed, in nanoseconds; None if there is no such image."""
        ...


def open_source(dataset: Gldv2, split: str, *, progress: bool = True) -> ImageSource:
    """The images of a split: of the tars in its folder if it has any, otherwise of the tree `a/b/c/<id>.jpg`.

    Args:
        dataset: the data set.
        split: "train", "index" or "test".
        progress: show a progress bar if indexing tars takes long.

    Raises:
        DataError: a tar cannot be used (`TarImages`), or the folder has compressed ones only.
    """
    folder = dataset.root / split
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    if tars := [folder / name for name in names if name.endswith(".tar")]:
        return TarImages(tars, progress=progress)
    if compressed := [name for name in names if name.endswith(_COMPRESSED)]:
        raise DataError(
            f"{folder / compressed[0]} is compressed; expected .tar files, which images can be read from in place, or the "
            "folders of unpacked images. Decompress or unpack it."
        )
    return FileImages(dataset, split)


class FileImages:
    """The images of a tree of files, as an `ImageSource`."""

    def __init__(self, dataset: Gldv2, split: str) -> None:
        self._dataset, self._split = dataset, split

    def read(self, image_id: str) -> bytes:
        """As `ImageSource.read`."""
        path = self.place(image_id)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for its writer
            with open(handle, "rb", buffering=0) as file:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    raise UnreadableImageError(path, "not a file")
                if found.st_size > IMAGE_BYTES:
                    raise UnreadableImageError(path, f"{found.st_size:,} bytes, more than the limit of {IMAGE_BYTES:,}")
                return file.readall()
        except FileNotFoundError:
            raise UnreadableImageError(path, "no such file") from None
        except OSError as error:
            raise UnreadableImageError(path, error.strerror or str(error)) from error

    def place(self, image_id: str) -> str:
        """The path of an image's file."""
        return str(self._dataset.image_path(self._split, image_id))

    def size(self, image_id: str) -> int | None:
        """As `ImageSource.size`."""
        found = self._stat(image_id)
        return found and found.st_size

    def changed(self, image_id: str) -> int | None:
        """When the image's file was last changed, in nanoseconds."""
        found = self._stat(image_id)
        return found and found.st_mtime_ns

    def _stat(self, image_id: str) -> os.stat_result | None:
        try:
            return os.stat(self.place(image_id))  # noqa: PTH116  (millions of paths)
        except OSError:
            return None
