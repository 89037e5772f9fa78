"""What stands at a path that a command reads, in true words."""

import os
import stat
from pathlib import Path

from zoo.errors import ZooError


def require_file(path: str | os.PathLike, expected: str, error: type[ZooError], advice: str = "") -> None:
    """Raises `error` unless a path is a regular file or a link to one: reading from a pipe or a device may never end.

    Args:
        path: the file to read.
        expected: what it should be, with its article.
        error: the class of the exception to raise.
        advice: the last sentence of its message.

    Raises:
        error: "{path} {why not}; expected {expected}. {advice}"
    """
    if why := no_file(Path(path)):
        raise error(f"{path} {why}; expected {expected}. {advice}".rstrip())


def require_folder(path: str | os.PathLike, expected: str, error: type[ZooError], advice: str = "") -> None:
    """As `require_file`, for a folder or a link to one."""
    path = Path(path)
    if not path.is_dir():
        why = no_file(path) or "is a file and not a folder"
        raise error(f"{path} {why}; expected {expected}. {advice}".rstrip())


def no_file(path: Path) -> str | None:
    """Why a path is not a regular file, to follow its name in a sentence; None if it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a symbolic link to something that does not exist" if path.is_symlink() else "does not exist"
    except NotADirectoryError:
        return "does not exist: a part of the path is a file and not a folder"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError as error:
        return f"is no path ({error})"
    if stat.S_ISREG(mode):
        return None
    return "is a folder" if stat.S_ISDIR(mode) else "is neither a file nor a folder but a device, a pipe or a socket"


def real_path(path: str | os.PathLike) -> Path:
    """The absolute path without symbolic links. Unlike `Path.resolve`, a link that leads back to itself is no error."""
    return Path(os.path.realpath(path))
