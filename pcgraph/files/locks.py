"""A folder that one process has to itself, for as long as it lives."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcgraph.errors import Fault, InputError

PATIENCE = 8.0
"""Seconds until a lock counts as held: helpers of a killed process live for up to five more."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; the system takes the lock back when the process ends, however it ends.

    The lock (flock) is on the folder itself: nothing is written, and it stays when the folder is renamed. It
    keeps the processes of one machine apart. Network disks that cannot lock a folder do without.

    Raises:
        InputError: Another process has it, or had it and has taken it away.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise _taken_away(folder) from None
    try:
        _lock(handle, folder)
        if not folder.exists() or not os.path.samestat(folder.stat(), os.fstat(handle)):
            raise _taken_away(folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    import fcntl

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                hint = "Wait for its end, or choose another folder."
                message = "another command is writing to this folder"
                raise InputError(Fault(message, hint=hint, where=str(folder))) from None
            time.sleep(0.1)
        except OSError:  # a network disk that cannot
            return


def _taken_away(folder: Path) -> InputError:
    message = "another command, which had this folder before, has taken it away"
    return InputError(Fault(message, hint="Give the command again.", where=str(folder)))
