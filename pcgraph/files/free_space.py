"""Whether there is room on a disk for what is to be written."""

from __future__ import annotations

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
