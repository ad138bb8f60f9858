"""Image files in folders: which files are images, in which order, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pcgraph.datasets.formats import SUFFIXES
from pcgraph.errors import Fault, InputError

COMPANIONS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
"""Folders that systems put beside images; like whatever begins with a dot, they hold none."""


def listed(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[list[Path], list[Path]]:
    """The folders and the images (or the files with other suffixes) in a folder, each sorted by name.

    What begins with a dot (``._photo.jpg``, ``.ipynb_checkpoints``) and what systems put beside images is
    left out. A link to a folder is a folder.

    Raises:
        InputError: The folder cannot be read.
    """
    folders, images = [], []
    try:
        with os.scandir(path) as entries:  # it knows folders from files without a look at each
            for entry in entries:
                if entry.name.startswith(".") or entry.name in COMPANIONS:
                    continue
                if entry.is_dir():
                    folders.append(path / entry.name)
                elif entry.name.lower().endswith(suffixes):
                    images.append(path / entry.name)
    except OSError as error:
        raise InputError(Fault(f"the folder cannot be read: {error.strerror}", where=str(path))) from None
    return sorted(folders), sorted(images)


def images_below(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    """All images (or other files) in a folder and those inside: its own first, then folder by folder.

    Raises:
        InputError: A folder cannot be read, or a link leads back to a folder around it.
    """
    yield from _below(path, suffixes, frozenset())


def _below(path: Path, suffixes: tuple[str, ...], around: frozenset[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(Fault(f"the folder cannot be read: {error.strerror}", where=str(path))) from None
    here = (status.st_dev, status.st_ino)
    if here in around:
        raise InputError(Fault("this link leads back to a folder that it is in", where=str(path)))
    folders, images = listed(path, suffixes)
    yield from images
    for inside in folders:
        yield from _below(inside, suffixes, around | {here})
