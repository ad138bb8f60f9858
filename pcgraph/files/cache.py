"""What takes long to make, kept for later processes in a folder of limited size."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcgraph.errors import InputError
from pcgraph.files.moving import remove
from pcgraph.files.seals import FILES, check_file, check_record, seal, to_json
from pcgraph.files.writing import whole_folder

PLACE = "PCGRAPH_CACHE"
"""The variable that names another folder; ``0`` keeps nothing."""
LIMIT = 4 * 10**9
"""Bytes of all entries together."""
RECORD = "entry.json"
HALF_MADE = f".{'[0-9a-f]' * 64}.*"
"""What `whole_folder` calls an entry, a digest of SHA-256, while it is made."""


@dataclass(frozen=True)
class Entry:
    """Something that was kept.

    Attributes:
        path: Its folder.
        about: What its maker wrote of it.
        size: Bytes.
        used: When it was last read, in seconds since 1970.
    """

    path: Path
    about: Mapping[str, Any]
    size: int
    used: float


class Cache:
    """Folders by key, each made whole or not at all; those that were not used longest go first.

    Two processes that make the same make it twice, and the first of the two stays. An entry that was damaged
    counts as lacking.

    Args:
        folder: Where; nobody but its owner may write there, as code is read from it.
        limit: Bytes of all entries together; the newest stays whatever it takes.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder, self.limit = folder, limit

    def find(self, key: str) -> Entry | None:
        """What was kept by that key, if all of it is as it was written."""
        entry = self._read(self.folder / key)
        if entry is None or not self._is_ours():
            return None
        try:
            for name in entry.about[FILES]:
                if not (entry.path / name).is_file():
                    return None
                check_file(entry.path / name, RECORD)
            os.utime(entry.path / RECORD)
        except (InputError, OSError):
            return None
        return entry

    def keep(self, key: str, make: Callable[[Path], Mapping[str, Any]]) -> Entry | None:
        """Let ``make`` write files into a folder and say what they are; None where that cannot be kept.

        What ``make`` raises goes through, and nothing is kept. Where another process was faster, its entry
        is the one.
        """
        path = self.folder / key
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._is_ours():
            return None
        remove(path)  # a damaged one
        try:
            with whole_folder(path) as partial:
                about = make(partial)
                names = [one.name for one in partial.iterdir()]
                (partial / RECORD).write_text(to_json(seal(about, partial, names)), encoding="utf-8")
        except OSError:
            if not path.is_dir():
                raise
        self._forget_until(self.limit, path)
        return self.find(key)

    def entries(self) -> list[Entry]:
        """All, the last used first."""
        paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        found = [entry for path in paths if (entry := self._read(path)) is not None]
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Forget all of them, and what killed processes left half made; how many there were."""
        entries = self.entries()
        for left in self.folder.glob(HALF_MADE):
            shutil.rmtree(left, ignore_errors=True)
        for entry in entries:
            shutil.rmtree(entry.path, ignore_errors=True)
        return len(entries)

    def _read(self, path: Path) -> Entry | None:
        try:
            about = check_record(path / RECORD)
            size = sum(one.stat().st_size for one in path.iterdir())
            return Entry(path, about, size, (path / RECORD).stat().st_mtime)
        except (InputError, OSError):
            return None

    def _forget_until(self, limit: int, newest: Path) -> None:
        total = 0
        for entry in self.entries():
            total += entry.size
            if total > limit and entry.path != newest:
                shutil.rmtree(entry.path, ignore_errors=True)

    def _is_ours(self) -> bool:
        """Whether nobody else can have written there."""
        if sys.platform == "win32":
            return True
        try:
            status = self.folder.stat()
        except OSError:
            return False
        return status.st_uid == os.getuid() and not status.st_mode & 0o022


def user_cache() -> Cache | None:
    """Where `PLACE` says, or else in the user's cache; None if it is off."""
    place = os.environ.get(PLACE, "")
    if place == "0":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Cache(Path(place) if place else Path(base) / "pcgraph")
