"""A disk that fills up, or fails, at any write: one sentence, and what was there is as it was."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

from . import SEEDS, contents, everything, hidden
from .test_places import COMMANDS

pytestmark = pytest.mark.heavy


class Failing:
    """Lets a number of calls of the system's writing functions pass, and then fails them all.

    Stands for all that may fail there, since each file is written, synced and renamed through them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, passes: int, number: int) -> None:
        self.calls, self.passes, self.number = 0, passes, number
        for name in ("fsync", "rename", "replace", "mkdir"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, function: Any) -> Any:
        def called(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls > self.passes:
                raise OSError(self.number, os.strerror(self.number))
            return function(*arguments, **more)

        return called


def fail(cli: Cli, place: Path, command: str, passes: int, force: bool, number: int = errno.ENOSPC) -> bool:
    """Run a command on a disk that fails after some calls; whether it did.

    Then a new folder is not there, or goes on to the same end; an old one is as it was.
    """
    whole = contents(place / "whole")
    if force:
        shutil.copytree(place / "other", place / "r")
    before = everything(place / "r")
    with pytest.MonkeyPatch.context() as patch:
        failing = Failing(patch, passes, number)
        outcome = cli(*COMMANDS[command], "--out", "r", *(["--force"] if force else []))
        failed = failing.calls > passes
    assert outcome.status == (2 if failed else 0), outcome.err
    if failed:
        assert os.strerror(number).lower() in outcome.err.lower(), outcome.err
        assert "Traceback" not in outcome.err
    if failed and force:  # the old one, whole, or the new one, which the next command puts in its place
        assert everything(place / "r") == before or (place / "r" / ".new").exists() or not hidden(place / "r")
    again = () if command in ("run", "query") else ("--resume",)
    if ((place / "r" / "run.json").exists() and not again) or force:
        again = ("--force",)
    outcome = cli(*COMMANDS[command], "--out", "r", *again)
    assert outcome.status == 0, outcome.err
    assert contents(place / "r") == whole
    assert hidden(place / "r") == []
    shutil.rmtree(place / "r")
    return failed


@pytest.fixture(params=list(COMMANDS))
def ready(request: pytest.FixtureRequest, cli: Cli, small: Path, pictures: Path) -> str:
    """A command whose results are in ``whole``; in ``other`` those of another seed."""
    words = COMMANDS[request.param]
    assert cli(*words, "--out", "whole").status == 0
    assert cli(*words, "--out", "other", "--seed", "7").status == 0
    return str(request.param)


def moments(count: int) -> Iterator[tuple[int, bool, int]]:
    draw = random.Random(count)
    for _ in range(count):
        yield draw.randrange(60), draw.random() < 0.5, draw.choice([errno.ENOSPC, errno.EIO, errno.EDQUOT])


def test_a_disk_that_fails(cli: Cli, ready: str, tmp_path: Path) -> None:
    found = [fail(cli, tmp_path, ready, *moment) for moment in [(6, True, errno.ENOSPC), *moments(2)]]
    assert any(found)


@pytest.mark.slow
def test_a_disk_that_fails_at_any_moment(cli: Cli, ready: str, tmp_path: Path) -> None:
    found = [fail(cli, tmp_path, ready, *moment) for moment in moments(SEEDS or 100)]
    print(f"full disk: {ready}: {len(found)} tried, {sum(found)} failed in the midst of it, all survived")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("size", ["64k", "200k"])
def test_a_disk_that_is_really_full(cli: Cli, small: Path, pictures: Path, tmp_path: Path, size: str) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    small.write_text(f"{small.read_text()}tune: {{noise: {{gaussian: [0, 1]}}, validation: 0}}\n")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]).returncode:
        pytest.skip("mounts are not allowed here")
    try:
        for command in ("run", "train", "tune", "evaluate"):
            words = ["tune", *COMMANDS["train"][1:]] if command == "tune" else [*COMMANDS[command]]
            words += [*(["--steps", "40"] if command == "run" else [])]
            outcome = cli(*words, "--out", f"disk/{command}")
            assert outcome.status == 2 or command != "run", outcome.err
            if outcome.status == 2:
                assert "room" in outcome.err or "space" in outcome.err
            if command == "run":
                assert not (place / command).exists()
            assert hidden(place) == []
            shutil.rmtree(place / command, ignore_errors=True)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_folder_that_is_taken_away(
    cli: Cli, small: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of an evaluation, by somebody else: one sentence."""
    from pcgraph.evaluation.store import Store

    original = Store.add

    def add(self: Store, *arguments: Any) -> None:
        original(self, *arguments)
        shutil.rmtree(tmp_path / "r", ignore_errors=True)

    monkeypatch.setattr(Store, "add", add)
    outcome = cli(*COMMANDS["evaluate"], "--batch", "4", "--out", "r")
    assert outcome.status == 2
    assert "no such file or directory" in outcome.err
    assert not (tmp_path / "r").exists()
