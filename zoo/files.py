"""Atomic writing: files and folders get a temporary name and are renamed when they are complete."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import OutputError

_ADVICE = {
    errno.ENOSPC: "Free some disk space",
    errno.EDQUOT: "Free some of your disk quota",
    errno.EROFS: "The file system is read-only: choose another output path",
    errno.EACCES: "You may not write there: change the permissions or choose another place",
    errno.EPERM: "You may not write there: change the permissions or choose another place",
}
"""What to do about a full or a protected disk. In the body of a `with`, other errors are not about the output."""


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _write_error(path: Path, error: OSError) -> OutputError:
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
        raise _write_error(path, error) from error


@contextmanager
def _disk_errors(path: Path, partial: Path) -> Iterator[None]:
    """Reports a full or write-protected disk as a failure to write `path`; the body's other errors pass through.

    A permission error that names a file outside `partial` passes through as well: it may be about an input.
    """
    try:
        yield
    except OSError as error:
        about_another = error.filename is not None and not str(error.filename).startswith(str(partial))
        protected = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if error.errno not in _ADVICE or (protected and about_another):
            raise
        raise _write_error(path, error) from error


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path in the same folder. It replaces `path` on success and is removed on failure.

    Raises:
        OutputError: the disk is full or the folder cannot be written. The body's other errors pass through unchanged.
    """
    path = Path(path)
    partial = _temporary(path)
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
        with _disk_errors(path, partial):
            yield partial
        with output_errors(path):
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            os.replace(partial, path)
    finally:
        with suppress(OSError):  # it was renamed, or could not be created
            partial.unlink()


@contextmanager
def new_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`. It becomes `path` on success and is removed on failure.

    Args:
        path: the folder to make; it may exist if it is empty.
        overwrite: replace a folder that is not empty. The old folder is removed only when the new one is complete.

    Raises:
        OutputError: `path` is not empty and `overwrite` is off, the disk is full, or the folder cannot be written. The
            body's other errors pass through unchanged.
    """
    path = Path(path)
    require_free(path, overwrite=overwrite)
    partial = _temporary(path)
    try:
        with output_errors(path):
            partial.mkdir(parents=True)
        with _disk_errors(path, partial):
            yield partial
        with output_errors(path):
            _move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move_into_place(new: Path, path: Path) -> None:
    """Renames a folder to `path`; a folder that is there is removed afterwards, and stays if the renaming fails."""
    if not path.exists():
        os.replace(new, path)
        return
    old = _temporary(path)
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def require_free(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Raises `OutputError` if `path` is a file, or a folder that is not empty and may not be replaced."""
    path = Path(path)
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            f"{path} already contains {sorted(p.name for p in path.iterdir())[0]!r}; expected an empty or a new folder. "
            "Choose another one, or pass --overwrite to replace it."
        )
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; expected an empty or a new folder. Choose another one.")


def require_elsewhere(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Raises `OutputError` if replacing `out` would delete one of a command's own inputs."""
    out = Path(out).resolve()
    for given in map(Path, inputs):
        if given.resolve() == out or given.resolve().is_relative_to(out):
            raise OutputError(f"{out} holds the input {given}, which would be replaced. Choose another --out.")


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as indented JSON, atomically."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
