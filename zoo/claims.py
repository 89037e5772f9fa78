"""Claims on output paths: one process at a time writes to a path, and the next one removes what a killed one left there.

A claim is a lock on a hidden file beside the output. The system releases it when its process ends in any way, so whoever holds
it knows that all temporary files of this output belong to dead processes. It also holds between containers, and between hosts
if their file system has locks; without locks, nothing is removed.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from zoo.disk import output_errors
from zoo.errors import OutputError

_LONGEST_STEM = 200
"""Bytes of an output's name that its temporary names contain; file systems allow 255 for a name."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_POLL_SECONDS = 0.05
_MOUNTS = Path("/proc/self/mountinfo")


@dataclass
class Claim:
    """The exclusive right to write an output.

    Attributes:
        target: the output's path without symbolic links.
        place: the folder that temporary files are made in: the output's parent, or the output itself if it is a mounted
            folder or its parent may not be written.
        file_mode: the mode of a new file under the process's umask.
    """

    target: Path
    place: Path
    file_mode: int
    _lock: int
    _created: list[Path] = field(default_factory=list)
    users: int = 0

    def partial(self) -> Path:
        """A new path for something unfinished; it does not exist."""
        return self._companion("partial")

    def replaced(self) -> Path:
        """A new path for what the output replaces; the next claim moves it back if there is no output then."""
        return self._companion("replaced")

    def is_own(self, name: str) -> bool:
        """Whether `name` is that of one of the claim's own files."""
        return is_companion(self.target, name)

    def release(self) -> None:
        """Gives the claim up and removes parent folders that were made for it if they are still empty."""
        with suppress(OSError):
            _lock_path(self.place, self.target).unlink()
        os.close(self._lock)
        for folder in reversed(self._created):
            with suppress(OSError):
                folder.rmdir()

    def _companion(self, kind: str) -> Path:
        return self.place / f".{_stem(self.target)}.{uuid.uuid4().hex[:8]}.{kind}"


_held: dict[Path, Claim] = {}
_guard = threading.RLock()


@contextmanager
def claimed(path: str | os.PathLike, *, wait: float = 0.0) -> Iterator[Claim]:
    """Claims an output for as long as the body runs; a claim that the process already has is shared.

    It is made at the start of a command, so that an output that cannot be written is found before the work.

    Args:
        path: the file or folder to write; missing parents are made. Symbolic links are followed.
        wait: seconds to wait for another process that has the claim.

    Raises:
        OutputError: another process is writing it, or its folder cannot be written.
    """
    shown = Path(path)
    with output_errors(shown):
        target = followed(shown)
        with _guard:
            claim = _held.get(target) or _take(shown, target, wait)
            claim.users += 1
            _held[target] = claim
    try:
        yield claim
    finally:
        with _guard:
            claim.users -= 1
            if not claim.users:
                del _held[target]
                claim.release()


def followed(path: Path) -> Path:
    """The absolute path without symbolic links; the last parts need not exist.

    Raises:
        OSError: it is a link that leads back to itself, or the root.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not target.name:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    return target


def is_companion(target: Path, name: str) -> bool:
    """Whether `name` is a temporary name or the lock of the output `target`."""
    return re.fullmatch(rf"\.{re.escape(_stem(target))}\.([0-9a-f]{{8}}\.(partial|replaced)|lock)", name) is not None


def _take(shown: Path, target: Path, wait: float) -> Claim:
    if len(os.fsencode(target.name)) > os.pathconf(_existing(target.parent), "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    created = _make_folders(target.parent)
    place = _place(target)
    lock, locked = _locked(shown, _lock_path(place, target), time.monotonic() + wait)
    claim = Claim(target, place, os.fstat(lock).st_mode & 0o666, lock, created)
    if locked:
        _remove_leftovers(claim)
    return claim


def _locked(shown: Path, path: Path, until: float) -> tuple[int, bool]:
    """An open lock file, and whether the file system could lock it."""
    while True:
        lock = _open_lock(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 100).decode(errors="replace").strip()
            os.close(lock)
            if time.monotonic() > until:
                raise OutputError(
                    f"{shown} is being written by another process{f' ({holder})' if holder else ''}. Wait until it has "
                    "finished, or choose another --out."
                ) from None
            time.sleep(_POLL_SECONDS)
            continue
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(lock)
                raise
            return lock, False
        with suppress(OSError):
            if path.stat().st_ino == os.fstat(lock).st_ino:
                os.ftruncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {os.uname().nodename}\n".encode())
                return lock, True
            # The one that had it removed the file while this one waited.
        os.close(lock)


def _open_lock(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666)
    except PermissionError:
        with suppress(OSError):  # another user's
            return os.open(path, os.O_RDONLY | flags)
        raise


def _remove_leftovers(claim: Claim) -> None:
    for entry in os.scandir(claim.place):
        path = claim.place / entry.name
        if not claim.is_own(entry.name) or path == _lock_path(claim.place, claim.target):
            continue
        with suppress(OSError):
            if entry.name.endswith(".replaced") and not os.path.lexists(claim.target):
                path.rename(claim.target)
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _place(target: Path) -> Path:
    inside = target.is_dir() and (is_mounted(target) or not os.access(target.parent, os.W_OK | os.X_OK))
    return target if inside else target.parent


def is_mounted(path: Path) -> bool:
    """Also finds a file, and a folder that is mounted from the same file system, which `os.path.ismount` does not."""
    try:
        points = [line.split(b" ")[4] for line in _MOUNTS.read_bytes().splitlines()]
    except (OSError, IndexError):
        return path.is_mount()
    unescaped = {re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), point) for point in points}
    return os.fsencode(path) in unescaped


def _make_folders(folder: Path) -> list[Path]:
    """Makes a folder and its parents; returns those that did not exist, the outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    if not folder.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing[::-1]


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _lock_path(place: Path, target: Path) -> Path:
    return place / f".{_stem(target)}.lock"


def _stem(target: Path) -> str:
    name = os.fsencode(target.name)
    if len(name) <= _LONGEST_STEM:
        return target.name
    return hashlib.sha256(name).hexdigest()[:32]
