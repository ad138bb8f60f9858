"""Making sure that what was written is on the disk, and that a fault of the disk names its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk, where the file system can say so."""
    if path.is_dir():
        with suppress(OSError):  # some file systems, and Windows, do not sync folders
            _sync(path)
    else:
        _sync(path)


def sync_tree(folder: Path) -> None:
    """Wait until a folder and everything in it is on the disk."""
    for inside, _, names in os.walk(folder):
        for name in names:
            sync(Path(inside) / name)
        sync(Path(inside))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a fault of the disk that does not say where it happened name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
