"""Writing files and folders whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pcgraph.errors import Fault, InputError
from pcgraph.files.moving import PARTIAL, remove, replace_contents
from pcgraph.files.syncing import naming, sync, sync_tree


def check_free(path: Path, *, force: bool, suffixes: tuple[str, ...] = ()) -> None:
    """Make sure, before the work begins, that a file may be written.

    Args:
        path: The file to be.
        force: Whether a file that is there already may be replaced.
        suffixes: Suffixes that are understood; any, if there are none.

    Raises:
        InputError: The file exists, is a folder, or has another suffix; its folder is not there, or takes no
            file.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        expected = ", ".join(suffixes[:-1]) + f" or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]
        given = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise InputError(Fault(f"expected a file that ends in {expected}, got {given}", where=str(path)))
    if path.is_dir():
        raise InputError(Fault("is a folder, expected a file to write", where=str(path)))
    if not path.parent.is_dir():
        raise InputError(Fault(f"there is no folder '{path.parent}'", hint="Make it first.", where=str(path)))
    if not os.access(path.parent, os.W_OK):
        raise InputError(Fault(f"nothing can be written in '{path.parent}'", where=str(path)))
    if path.exists() and not force:
        raise InputError(Fault("exists already", hint="Choose another name, or --force.", where=str(path)))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it replaces ``path`` when the block ends without error.

    Once the block has ended, the file is on the disk (fsync), under its name.
    """
    with naming(path):
        partial = _beside(path)  # known before it is there: an interruption leaves no file behind
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            yield partial
            partial.chmod(0o666 & ~_umask())
            sync(partial)
            partial.replace(path)
            sync(path.parent)
        except OSError as error:
            if error.filename == str(partial):  # which is nobody's file
                error.filename = str(path)
            raise
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; what no UTF-8 can say is escaped."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder, whose contents are those of ``path`` when the block ends without error.

    A folder that is not there appears as a whole, by one rename. In one that is there the new contents take
    the place of the old, which stay until the new ones are whole. Both are on the disk then (fsync).
    """
    path = path.resolve()
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.is_dir()
        partial = path / PARTIAL if there else _beside(path)
        try:
            remove(partial)
            partial.mkdir(0o700)
            yield partial
            if there:
                replace_contents(path, [one.name for one in path.iterdir() if one.name != PARTIAL])
            else:
                partial.chmod(0o777 & ~_umask())
                sync_tree(partial)
                partial.rename(path)
                sync(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A hidden name beside ``path`` that nothing has."""
    return path.parent / f".{path.name}.{secrets.token_hex(6)}{path.suffix}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
