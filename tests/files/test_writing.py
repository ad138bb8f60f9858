"""Files and folders are written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from pcgraph.errors import InputError
from pcgraph.files import check_free, whole_file, whole_folder, write_text


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.suffix == ".txt"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as partial:
        partial.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a"
    for content in ("one", "two"):
        with whole_folder(path) as partial:
            (partial / content).touch()
        assert [file.name for file in path.iterdir()] == [content]
    with pytest.raises(ZeroDivisionError), whole_folder(path) as partial:
        (partial / f"{1 / 0}").touch()
    assert [file.name for file in path.iterdir()] == ["two"]
    assert [file.name for file in path.parent.iterdir()] == ["a"]


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "text")
        with whole_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    check_free(path, force=False)
    path.touch()
    with pytest.raises(InputError, match="exists already"):
        check_free(path, force=False)
    check_free(path, force=True)
    with pytest.raises(InputError, match="is a folder"):
        check_free(tmp_path, force=True)
    with pytest.raises(InputError, match="there is no folder"):
        check_free(tmp_path / "no" / "a.txt", force=True)


@pytest.mark.parametrize("write", [whole_file, whole_folder])
def test_an_interruption_while_it_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    """It comes when the hidden file or folder is there, before anybody has its name."""

    came: list[str] = []

    def interrupted(make: Callable[..., Any]) -> Callable[..., Any]:
        def then(path: Any, *more: Any, **options: Any) -> Any:
            made = make(path, *more, **options)
            if ".a" not in str(path) or came:
                return made
            came.append(str(path))
            raise KeyboardInterrupt

        return then

    monkeypatch.setattr("os.open", interrupted(os.open))
    monkeypatch.setattr("os.mkdir", interrupted(os.mkdir))
    with pytest.raises(KeyboardInterrupt), write(tmp_path / "a"):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_disk_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        write_text(tmp_path / "gone" / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "gone" / "a.txt")


def test_a_folder_that_takes_no_file_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_free(tmp_path / "a.txt", force=False)
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode == os.W_OK))
    with pytest.raises(InputError, match="nothing can be written in"):
        check_free(tmp_path / "a.txt", force=True)


@pytest.mark.parametrize("write", [whole_file, whole_folder])
def test_a_power_cut_finds_the_old_or_the_new(
    write: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is on the disk before it has its name, and the name is when the block has ended."""
    steps: list[Any] = []
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append(os.fstat(handle).st_ino))
    for name in ("rename", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *paths, it=original: (steps.append("named"), it(*paths)))
    path = tmp_path / "a"
    with write(path) as partial:
        (partial / "b" if partial.is_dir() else partial).write_text("text")
    named = steps.index("named")
    assert (path / "b" if path.is_dir() else path).stat().st_ino in steps[:named]
    assert tmp_path.stat().st_ino in steps[named:]
