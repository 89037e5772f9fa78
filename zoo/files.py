"""Writing that never leaves half a file: everything is made under a temporary name and renamed when it is whole."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import OutputError


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def _write_error(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} could not be written: {error.strerror or error}. What was there before is untouched. "
        "Free some disk space or choose another place, then run the same command again."
    )


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path in the same folder; on success it replaces `path`, on any failure it is removed.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    partial = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with suppress(OSError):  # it is gone after the rename, or its folder never was one
            partial.unlink()


@contextmanager
def new_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it becomes `path`, on any failure it is removed.

    Args:
        path: the folder to make; it may exist when it is empty.
        overwrite: replace a folder that holds something. The old one is removed only after the new one is whole.

    Raises:
        OutputError: `path` already holds something and `overwrite` is off, or the disk is full.
    """
    path = Path(path)
    require_free(path, overwrite=overwrite)
    partial = _temporary(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            old = _temporary(path)
            os.replace(path, old)
            os.replace(partial, path)
            shutil.rmtree(old)
        else:
            os.replace(partial, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_free(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Raises `OutputError` where `path` is a file, or a folder that holds something and may not be replaced."""
    path = Path(path)
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            f"{path} already holds {sorted(p.name for p in path.iterdir())[0]!r}; expected an empty or a new folder. "
            "Choose another one, or pass --overwrite to replace it."
        )
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; expected an empty or a new folder. Choose another one.")


def write_json(path: str | os.PathLike, value: object) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    with new_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
