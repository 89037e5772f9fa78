"""The other processes of a training: which of them have ended, and which one says so."""

import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

_SETTLE_SECONDS = 0.5
"""A process that has just been killed is still listed until its launcher notices."""


class Partner(NamedTuple):
    """A process of a training."""

    host: str
    pid: int


def myself() -> Partner:
    """This process."""
    return Partner(socket.gethostname(), os.getpid())


def obituary(partners: Sequence[Partner], rank: int) -> str | None:
    """The one message about processes that have ended, or None if another process gives it.

    Args:
        partners: all processes in the order of their ranks.
        rank: of this process. The first that is alive on its host speaks.
    """
    time.sleep(_SETTLE_SECONDS)
    gone, here = ended(partners, rank), partners[rank].host
    alive = [number for number, partner in enumerate(partners) if partner.host == here and number not in gone]
    if alive[0] != rank:
        return None
    which = ", ".join(f"{number} (pid {partners[number].pid})" for number in gone)
    what = f"process {which} of {len(partners)} has ended" if gone else "another process cannot be reached"
    return (
        f"{what}, so the training stops; what it printed last, or the system's log (dmesg: out of memory?), says why. "
        "Run the same command again to continue from the last saved state."
    )


def ended(partners: Sequence[Partner], rank: int) -> list[int]:
    """The ranks of the processes on this one's host that have ended."""
    here = partners[rank].host
    return [number for number, partner in enumerate(partners) if partner.host == here and not _alive(partner.pid)]


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
    except (OSError, IndexError):
        return True
