"""Errors of the disk as errors about an output: the user's path, what the system said, and what to do about it."""

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import OutputError

_PERMISSION = "You may not write there: change the permissions or choose another place"
_ADVICE = {
    errno.ENOSPC: "Free some disk space",
    errno.EDQUOT: "Free some of your disk quota",
    errno.EFBIG: "The file would be larger than `ulimit -f` or the file system allows: raise the limit or choose another place",
    errno.EROFS: "The file system is read-only: choose another output path",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENAMETOOLONG: "The name is longer than the file system allows: choose a shorter one",
    errno.ENOTDIR: "A part of the path is a file and not a folder: choose another output path",
    errno.EISDIR: "It is a folder, and a file is to be written: choose another name",
    errno.EEXIST: "Something else is there: choose another output path",
    errno.ENOTEMPTY: "Something else is there: choose another output path",
    errno.ELOOP: "It is a symbolic link that leads back to itself: correct the link or choose another output path",
    errno.EBUSY: "It is a mount point or in use: choose another output path",
    errno.EXDEV: "It reaches over two file systems: choose a path on one of them",
    errno.EMFILE: "Too many files are open: raise the limit with `ulimit -n`",
    errno.ENFILE: "The system has too many open files: close other programs",
    errno.ESTALE: "The network's file system lost the folder: mount it again",
    errno.EIO: "The disk reports an error of its own: check it, or choose another place",
    errno.EINVAL: "The file system does not take this name: choose another one",
    errno.EILSEQ: "The file system does not take this name: choose another one",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ROOM = "Free some disk space where the output and TMPDIR are, or raise `ulimit -f`"
"""What to do about `FULL` if the file is not known."""
_PROTECTED = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_error(path: Path, error: OSError) -> OutputError:
    """The error to raise if `path` could not be written."""
    advice = _ADVICE.get(error.errno or 0, "Choose another output path")
    return OutputError(
        f"{path} could not be written: {error.strerror or error}. What existed before is unchanged. "
        f"{advice}, then run the same command again."
    )


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Reports any `OSError` as an `OutputError` about `path`; for code that only writes there."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def disk_errors(path: Path, partial: Path) -> Iterator[None]:
    """Reports a full or write-protected disk as a failure to write `path`; the body's other errors pass through.

    A permission error that names a file outside `partial` passes through as well: it may be about an input.
    """
    try:
        yield
    except OSError as error:
        about_another = error.filename is not None and not os.fsdecode(error.filename).startswith(str(partial))
        if error.errno in FULL or (error.errno in _PROTECTED and not about_another):
            raise write_error(path, error) from error
        raise


def require_room(path: Path, needed: int, *, largest: int = 0) -> None:
    """Raises `OutputError` if an output certainly does not fit, so that this is found before the work.

    Args:
        path: the file or folder to write; it may not exist yet.
        needed: bytes that the output and what is made on its way need at the least. What it replaces stays until then.
        largest: bytes of the largest single file among them.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and largest > limit:
        raise OutputError(
            f"{path} needs a file of {_size(largest)}, and `ulimit -f` allows {_size(limit)}. Raise the limit, then run the "
            "same command again."
        )
    place = Path(os.path.realpath(path)).parent
    while not place.exists():
        place = place.parent
    free = _free(place)
    if free is not None and needed > free:
        raise OutputError(
            f"{path} needs at least {_size(needed)}, and {_size(free)} are free in {place}. Free some disk space or choose "
            "another --out, then run the same command again."
        )


def _free(folder: Path) -> int | None:
    """Bytes that this process may still write there; None if the file system does not say."""
    disk = os.statvfs(folder)
    if not disk.f_blocks:
        return None
    return disk.f_frsize * (disk.f_bavail if os.geteuid() else disk.f_bfree)  # the superuser's reserve is root's to use


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count:,} bytes"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder in `$TMPDIR`, removed at the end.

    Raises:
        OutputError: it cannot be made, or the disk that it is on is full. The body's other errors pass through.
    """
    place = _temporary_place()
    try:
        made = tempfile.TemporaryDirectory(prefix="landmark-zoo-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _temporary_error(place, error) from error
    with made as folder:
        try:
            yield Path(folder)
        except OSError as error:
            elsewhere = error.filename is not None and not os.fsdecode(error.filename).startswith(folder)
            if error.errno not in FULL or elsewhere:
                raise
            raise _temporary_error(place, error) from error


def _temporary_place() -> str:
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise OutputError(
            "no folder for temporary files can be written: neither TMPDIR nor /tmp. Set TMPDIR to a folder with free space."
        ) from error


def _temporary_error(place: str, error: OSError) -> OutputError:
    return OutputError(
        f"temporary files could not be written to {place}: {error.strerror or error}. Set TMPDIR to a folder with more "
        "space, then run the same command again."
    )
