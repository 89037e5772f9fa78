"""Unpacks a zip that may come from anybody."""

import lzma
import shutil
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from zoo.errors import ExportError
from zoo.limits import DEPTH, ZIP_ENTRIES, ZIP_GROWTH, require_at_most

_NAME = 1000
"""Characters of a name."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


def unzip(path: Path, folder: Path) -> None:
    """Unpacks a zip into an empty folder.

    Args:
        path: the zip.
        folder: where to.

    Raises:
        ExportError: it is not a zip, is damaged or encrypted, has names that lead elsewhere, links or a name twice, or would
            become too large (`zoo.limits`).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(entries, path)
            for entry in entries:
                place = folder / entry.filename
                if entry.is_dir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(place, "xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except ExportError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise ExportError(
            f"{path} is not a whole zip: {error}. Pack it again with `python submission/pack.py`."
        ) from error
    except (OSError, ValueError, OverflowError) as error:
        raise ExportError(f"{path} could not be unpacked: {error}.") from error


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
