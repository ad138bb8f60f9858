"""New contents of a folder: whole in a hidden folder inside it first, then in the place of the old.

Nothing is renamed but what is inside, so the folder may be a mount point, the current one, or a link.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from pcgraph.files.syncing import sync, sync_tree

PARTIAL, READY = ".partial", ".new"
"""Where new contents are written; and where they are from the moment on when they are whole."""


def replace_contents(folder: Path, old: Iterable[str], last: str | None = None) -> None:
    """Put what is in ``folder/.partial`` in the place of the old contents.

    If the power fails in the midst of it, `finish_replacing` does the rest.

    Args:
        folder: Where to.
        old: Names of what goes.
        last: Name of what is moved last, because it says that all is there.
    """
    sync_tree(folder / PARTIAL)
    (folder / PARTIAL).rename(folder / READY)
    sync(folder)
    finish_replacing(folder, old, (), last)


def finish_replacing(folder: Path, old: Iterable[str], new: Iterable[str], last: str | None = None) -> None:
    """Do what is left to do of `replace_contents`; nothing, if nothing is.

    Args:
        folder: Where to.
        old: Names of what goes.
        new: Names of what comes; of these, what is in ``folder/.new`` no more is in its place already.
        last: As there.
    """
    ready = folder / READY
    if not ready.is_dir():
        return
    coming = {path.name for path in ready.iterdir()}
    kept = set(new) - coming
    for name in sorted((set(old) | coming) - kept - {last}) if coming else ():
        remove(folder / name)
    for name in sorted(coming, key=lambda name: (name == last, name)):
        (ready / name).rename(folder / name)
    ready.rmdir()
    sync(folder)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; nothing, if there is none."""
    if path.name in ("", ".", ".."):
        raise ValueError(f"'{path}' is not the name of something in a folder")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
