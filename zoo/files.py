"""Atomic writing: files and folders get a temporary name and are renamed when they are complete.

Symbolic links are followed and stay. One process at a time writes to a path (`zoo.claims`).
"""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.claims import Claim, claimed, followed, is_companion, is_mounted
from zoo.disk import disk_errors, output_errors
from zoo.errors import OutputError
from zoo.exchange import exchange
from zoo.inputs import real_path

_WAIT_SECONDS = 10.0
"""How long writing a file waits for another process that writes the same one: most are written within a moment."""
_OF_THE_FILE_SYSTEM = ("lost+found",)


@contextmanager
def output_file(
    path: str | os.PathLike,
    inputs: Iterable[str | os.PathLike] = (),
    *,
    around: Iterable[str | os.PathLike] = (),
    wait: float = 0.0,
) -> Iterator[None]:
    """The door of a command that writes a file: everything that is known to prevent it is found before the work.

    Args:
        path: the file; another process that would write it is refused until the body has ended.
        inputs, around: as in `require_elsewhere`.
        wait: seconds to wait for another process that is writing it.

    Raises:
        OutputError: `path` is an input or no file, cannot be written or replaced, or another process is writing it.
    """
    require_elsewhere(path, inputs, around=around)
    _require_file_or_nothing(path)
    with claimed(path, wait=wait) as claim:
        with output_errors(Path(path)):
            _require_replaceable(claim.target)
        yield


@contextmanager
def output_folder(
    path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = (), *, overwrite: bool = False
) -> Iterator[None]:
    """The door of a command that makes a folder, as `output_file`.

    Raises:
        OutputError: `path` is an input, holds something and `overwrite` is off, cannot be written, or another process is
            writing it.
    """
    require_elsewhere(path, inputs)
    require_free(path, overwrite=overwrite)
    with claimed(path):
        yield


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path in the same folder. It replaces `path` on success and is removed on failure.

    Raises:
        OutputError: the disk is full, the folder cannot be written, `path` is not a file, or another process keeps writing
            it. The body's other errors pass through unchanged.
    """
    path = Path(path)
    _require_file_or_nothing(path)
    with claimed(path, wait=_WAIT_SECONDS) as claim:
        partial = claim.partial()
        try:
            with output_errors(path):
                partial.touch()
                mode = stat.S_IMODE(partial.stat().st_mode)
            with disk_errors(path, partial):
                yield partial
            with output_errors(path):
                partial.chmod(mode)  # safetensors makes files that nobody else can read
                _flush(partial)
                os.replace(partial, claim.target)
                _flush(claim.target.parent)
        finally:
            with suppress(OSError):  # it was renamed, or could not be created
                partial.unlink()


@contextmanager
def new_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`. It becomes `path` on success and is removed on failure.

    A mounted folder, or one whose parent may not be written, is filled at the end instead of replaced.

    Args:
        path: the folder to make; it may exist if it is empty.
        overwrite: replace a folder that is not empty. The old folder is removed only when the new one is complete.

    Raises:
        OutputError: `path` is not empty and `overwrite` is off, another process is writing it, the disk is full, or the
            folder cannot be written. The body's other errors pass through unchanged.
    """
    path = Path(path)
    require_free(path, overwrite=overwrite)
    with claimed(path) as claim:
        require_free(path, overwrite=overwrite)  # another process may have finished it in the meantime
        partial = claim.partial()
        try:
            with output_errors(path):
                partial.mkdir()
            with disk_errors(path, partial):
                yield partial
            with output_errors(path):
                _set_modes(partial, claim.file_mode)
                _move_into_place(partial, claim, path, overwrite=overwrite)
                _flush(claim.target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def work_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside the output `path`, for files that are needed until it is written.

    While it exists, Python's `tempfile` and child processes make their temporary files in it: a disk with room for the output has
    room for them, and they are removed with it, by the next command for `path` if this process is killed.
    """
    path = Path(path)
    with claimed(path) as claim:
        folder = claim.partial()
        old, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        try:
            with output_errors(path):
                folder.mkdir()
            tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
            with disk_errors(path, folder):
                yield folder
        finally:
            tempfile.tempdir = old
            if variable is None:
                os.environ.pop("TMPDIR", None)
            else:
                os.environ["TMPDIR"] = variable
            shutil.rmtree(folder, ignore_errors=True)


def _require_file_or_nothing(path: str | os.PathLike) -> None:
    """Raises `OutputError` if `path` is a folder, a device or a pipe: a file could not replace it, or should not."""
    path = Path(path)
    with output_errors(path):
        folder, special = path.is_dir(), path.exists() and not path.is_file()
    if folder:
        raise OutputError(f"{path} is a folder; expected a file to write. Choose another --out.")
    if special:
        raise OutputError(f"{path} is not a regular file; expected a file to write. Choose another --out.")


def _require_replaceable(target: Path) -> None:
    """Raises the `OSError` that renaming a file to `target` would meet: a mounted, an immutable or somebody else's file."""
    if not target.exists():
        return
    if is_mounted(target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    user, folder = os.geteuid(), target.parent.stat()
    sticky = folder.st_mode & stat.S_ISVTX and user not in (target.stat().st_uid, folder.st_uid)
    if sticky if user else not os.access(target, os.W_OK):  # root may write whatever is not immutable
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def require_free(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Raises `OutputError` if `path` is a file, or a folder that is not empty and may not be replaced."""
    path = Path(path)
    with output_errors(path):
        found = sorted(_content(followed(path))) if path.is_dir() and not overwrite else []
    if found:
        raise OutputError(
            f"{path} already contains {found[0]!r}; expected an empty or a new folder. "
            "Choose another one, or pass --overwrite to replace it."
        )
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; expected an empty or a new folder. Choose another one.")


def require_elsewhere(
    out: str | os.PathLike, inputs: Iterable[str | os.PathLike], *, around: Iterable[str | os.PathLike] = ()
) -> None:
    """Raises `OutputError` if writing `out` would delete or change one of a command's own inputs.

    Args:
        out: the file or folder to write.
        inputs: files and folders that are read: `out` may not be one of them, hold one or lie in one. Links, hard links and
            names that differ in case only are recognised.
        around: folders that `out` may lie in, but not be or hold, such as the root of a data set.
    """
    out = Path(out)
    inputs, around = [Path(given) for given in inputs], [Path(given) for given in around]
    for given in (*inputs, *around):
        if any(_reaches(out, path) for path in (given, real_path(given.parent) / given.name)):
            raise OutputError(f"{out} is or holds the input {given}, which would be replaced. Choose another --out.")
    for given in inputs:
        if given.is_dir() and _reaches(given, out):
            raise OutputError(f"{out} lies in the input {given}, which would be changed. Choose another --out.")


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as indented JSON, atomically."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _reaches(outer: Path, path: Path) -> bool:
    """Whether `path` is `outer` or lies in it. What exists is compared by identity, so links and case do not matter."""
    real, outer_real = Path(os.path.realpath(path)), Path(os.path.realpath(outer))
    if real.is_relative_to(outer_real) or path.absolute().is_relative_to(outer_real):
        return True
    if not outer_real.exists():
        return False
    return any(place.exists() and place.samefile(outer_real) for place in (real, *real.parents))


def _content(folder: Path) -> list[str]:
    """Names in a folder, except those that the file system or an earlier, killed command left there."""
    return [
        name
        for name in (path.name for path in folder.iterdir())
        if name not in _OF_THE_FILE_SYSTEM and not is_companion(folder, name)
    ]


def _move_into_place(new: Path, claim: Claim, shown: Path, *, overwrite: bool) -> None:
    """Renames a folder to the claim's target; a folder that is there is removed afterwards, and stays if that fails."""
    target = claim.target
    if target.is_dir():
        shutil.copymode(target, new)
    if claim.place == target:
        _fill(new, claim, shown, overwrite=overwrite)
        return
    try:
        new.rename(target)  # replaces an empty folder, but never one that holds something
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    require_free(shown, overwrite=overwrite)
    if exchange(new, target):
        return
    old = claim.replaced()
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fill(new: Path, claim: Claim, shown: Path, *, overwrite: bool) -> None:
    """Moves what a folder holds into the claim's target; what was there is moved back if that fails."""
    require_free(shown, overwrite=overwrite)
    old = claim.partial()
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for source, into in ((claim.target, old), (new, claim.target)):
            for name in _content(claim.target) if source == claim.target else [path.name for path in source.iterdir()]:
                (source / name).rename(into / name)
                moved.append((source / name, into / name))
    except BaseException:
        for source, now in reversed(moved):
            now.rename(source)
        old.rmdir()  # never with content: it is the user's
        raise
    shutil.rmtree(old, ignore_errors=True)


def _set_modes(folder: Path, file_mode: int) -> None:
    """Gives what was made the modes that the umask allows. Hard links are left alone: they are somebody else's file too."""
    folder_mode = stat.S_IMODE(folder.stat().st_mode)
    for root, folders, files in os.walk(folder):
        for names, mode in ((folders, folder_mode), (files, file_mode)):
            for path in (os.path.join(root, name) for name in names):
                found = os.lstat(path)
                links = stat.S_ISLNK(found.st_mode) or (mode == file_mode and found.st_nlink > 1)
                if not links and stat.S_IMODE(found.st_mode) & 0o777 != mode & 0o777:
                    os.chmod(path, found.st_mode & 0o7000 | mode & 0o777)


def _flush(path: Path) -> None:
    """Writes a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP) or path.is_file():
            raise
    finally:
        os.close(handle)
