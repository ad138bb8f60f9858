"""What is kept for later processes: whole or not at all, and read only where nobody else writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pcgraph.files.cache import RECORD, Cache, user_cache


def written(folder: Path, text: str) -> Mapping[str, Any]:
    (folder / "data.bin").write_text(text)
    return {"operations": len(text)}


def keep(cache: Cache, key: str, text: str = "text") -> None:
    assert cache.keep(key, lambda folder: written(folder, text)) is not None


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.find("a") is None
    assert cache.entries() == []
    keep(cache, "a", "seven..")
    entry = cache.find("a")
    assert entry is not None
    assert (entry.path / "data.bin").read_text() == "seven.."
    assert entry.about["operations"] == 7
    assert entry.size == sum(one.stat().st_size for one in entry.path.iterdir())
    assert cache.clear() == 1
    assert cache.find("a") is None


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "record", "file"])
def test_a_damaged_entry_is_lacking_and_made_again(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path / "cache")
    keep(cache, "a")
    data = cache.folder / "a" / "data.bin"
    if damage == "changed":
        data.write_text("texs")
    if damage == "cut":
        data.write_text("")
    if damage == "gone":
        data.unlink()
    if damage == "record":
        (cache.folder / "a" / RECORD).write_text("{")
    if damage == "file":
        shutil.rmtree(cache.folder / "a")
        (cache.folder / "a").touch()
    assert cache.find("a") is None
    keep(cache, "a", "new")
    assert data.read_text() == "new"


def test_what_its_maker_does_not_finish_is_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")

    def fails(folder: Path) -> Mapping[str, Any]:
        written(folder, "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.keep("a", fails)
    assert list(cache.folder.iterdir()) == []


def test_of_two_processes_the_first_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")

    def slow(folder: Path) -> Mapping[str, Any]:
        keep(Cache(cache.folder), "a", "first")
        return written(folder, "second")

    entry = cache.keep("a", slow)
    assert entry is not None
    assert (entry.path / "data.bin").read_text() == "first"
    assert [one.name for one in cache.folder.iterdir()] == ["a"]


def test_a_fault_of_the_disk_goes_through(tmp_path: Path) -> None:
    def full(folder: Path) -> Mapping[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Cache(tmp_path / "cache").keep("a", full)


def test_what_a_killed_process_left_half_made_is_cleared(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    keep(cache, "a")
    half, other = cache.folder / f".{'0' * 64}.12ab", cache.folder / ".mine"
    half.mkdir()
    other.mkdir()
    assert cache.clear() == 1
    assert list(cache.folder.iterdir()) == [other]


def test_what_was_not_used_longest_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    for second, key in enumerate("abc"):
        keep(cache, key, "x" * 1000)
        os.utime(cache.folder / key / RECORD, (second, second))
    assert cache.find("a") is not None  # now the last that was used
    size = cache.entries()[0].size
    keep(Cache(cache.folder, limit=3 * size + 10), "d", "x" * 1000)
    assert {entry.path.name for entry in cache.entries()} == {"a", "c", "d"}
    keep(Cache(cache.folder, limit=1), "e", "x" * 1000)
    assert [entry.path.name for entry in cache.entries()] == ["e"]


def test_nothing_is_read_where_others_can_write(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    keep(cache, "a")
    cache.folder.chmod(0o777)
    assert cache.find("a") is None
    assert cache.keep("b", lambda folder: written(folder, "x")) is None
    cache.folder.chmod(0o700)
    assert cache.find("a") is not None


def test_the_variable_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for value, place in {"": tmp_path / "home" / "pcgraph", str(tmp_path / "own"): tmp_path / "own"}.items():
        monkeypatch.setenv("PCGRAPH_CACHE", value)
        found = user_cache()
        assert found is not None
        assert found.folder == place
    monkeypatch.setenv("PCGRAPH_CACHE", "0")
    assert user_cache() is None
