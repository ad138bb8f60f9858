"""Whether there is room: on a disk for what is to be written, and in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pcgraph.errors import Fault, InputError


def check_room(folder: Path, needed: int) -> None:
    """Make sure, before the work, that a disk has room.

    Args:
        folder: Where on it.
        needed: Bytes.

    Raises:
        InputError: There is too little.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = f"there is room for {free / 1e6:,.2f} MB, and {needed / 1e6:,.2f} MB are needed"
        raise InputError(Fault(message, hint="Make room, or choose another --out.", where=str(folder)))


def memory() -> float:
    """Bytes of memory that this machine has; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # no POSIX system
        return float("inf")
