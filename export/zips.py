"""Unpacks a zip that may come from anybody."""

import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from zoo.errors import ExportError
from zoo.limits import DEPTH, ZIP_ENTRIES, ZIP_GROWTH, require_at_most

_NAME = 1000
"""Characters of a name."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""The others can ask for gigabytes of memory to unpack a kilobyte."""
_COUNT_ELSEWHERE = 0xFFFF
"""Instead of the number of entries, in a zip of more, or beyond 4 GiB."""
_DIRECTORY = 16 << 20
"""Bytes of a zip's directory, which is read before its entries are known."""


def unzip(path: Path, folder: Path) -> None:
    """Unpacks a zip into an empty folder.

    Args:
        path: the zip.
        folder: where to.

    Raises:
        ExportError: it is not a zip, is damaged or encrypted, has names that lead elsewhere, links or a name twice, or would
            become too large (`zoo.limits`).
    """
    with _opened(path) as archive:
        for entry in archive.infolist():
            place = folder / entry.filename
            if entry.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(place, "xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def check_zip(path: Path) -> None:
    """Raises `ExportError` as `unzip` does, but for the content of the entries, which is not unpacked."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        claimed = _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            _check(archive.infolist(), path)
            if claimed not in (len(archive.infolist()), _COUNT_ELSEWHERE):
                raise ExportError(f"{path} has {len(archive.infolist())} entries, and its end says {claimed}")
            yield archive
    except ExportError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ExportError(
            f"{path} is not a whole zip: {error}. Pack it again with `python submission/pack.py`."
        ) from error
    except (OSError, ValueError, OverflowError) as error:
        raise ExportError(f"{path} could not be unpacked: {error}.") from error


def _check_directory(path: Path) -> int:
    """How many entries a zip says it has. Raises `ExportError` if their directory is too large; zipfile reads it whole."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        end = file.read()
    place = end.rfind(b"PK\x05\x06")
    if place >= 0 and len(end) >= place + 22:
        size = int.from_bytes(end[place + 12 : place + 16], "little")
        if size != 0xFFFFFFFF:  # the mark of a zip beyond 4 GiB, whose directory is small beside it
            require_at_most(_DIRECTORY, size, "bytes of its directory", path, ExportError)
        return int.from_bytes(end[place + 10 : place + 12], "little")
    return _COUNT_ELSEWHERE


def _check(entries: list[zipfile.ZipInfo], path: Path) -> None:
    require_at_most(ZIP_ENTRIES, len(entries), "entries", path, ExportError)
    size = path.stat().st_size
    require_at_most(
        3 * size + ZIP_GROWTH, sum(entry.file_size for entry in entries), "bytes unpacked", path, ExportError
    )
    seen = set()
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        if (
            not parts
            or len(name) > _NAME
            or len(parts) > DEPTH
            or name.startswith("/")
            or "\0" in entry.orig_filename
            or ".." in parts
            or "\\" in name
            or ":" in name
        ):
            raise ExportError(f"{path} has an entry named {name[:60]!r}, which leads elsewhere or is no name")
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise ExportError(f"{path}: its entry {name!r} is a link; expected files only")
        if entry.flag_bits & 1:
            raise ExportError(f"{path}: its entry {name!r} is encrypted; expected none that is")
        if entry.compress_type not in _METHODS:
            raise ExportError(
                f"{path}: its entry {name!r} is compressed by method {entry.compress_type}, which is not known here"
            )
        if name.rstrip("/").lower() in seen:
            raise ExportError(f"{path} has two entries named {name!r}")
        seen.add(name.rstrip("/").lower())
