"""The folder of a run: made and owned when the run begins, and whole when it ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pcgraph.errors import Fault, InputError
from pcgraph.files.locks import locked
from pcgraph.files.moving import PARTIAL, READY, finish_replacing, remove, replace_contents
from pcgraph.files.syncing import naming
from pcgraph.runs.record import KNOWN, RECORD, own_names, read_kind

PROBE = 65536
"""Bytes that must find room before a run begins."""
OURS = {PARTIAL, READY}


@dataclass
class RunFolder:
    """A run folder that this process has to itself; see `run_folder`.

    Attributes:
        path: What it is called.
        work: Where the run writes; `path`, or a hidden folder inside it until `finish`.
        goes_on: Whether it holds a run that this one goes on with.
        worth: Names of folders in it whose contents are worth keeping when the run fails.
        kept: Whether what is there stays when the run fails.
    """

    path: Path
    work: Path
    goes_on: bool = False
    worth: Sequence[str] = ()
    kept: bool = False

    def finish(self) -> None:
        """Put what was written in its place: what was there before goes only now."""
        if self.work != self.path:
            replace_contents(self.path, own_names(self.path), RECORD)
            self.work = self.path
        self.kept = True

    def clear(self) -> None:
        """Remove what a run wrote that has failed, unless something of it can be used."""
        found = [self.work / name for name in self.worth if (self.work / name).is_dir()]
        if self.kept or self.goes_on or any(any(folder.glob("[!.]*")) for folder in found):
            return
        if self.work != self.path:
            shutil.rmtree(self.work, ignore_errors=True)
            return
        for name in {*KNOWN, *own_names(self.path), *self.worth}:
            remove(self.path / name)


@contextmanager
def run_folder(
    name: str,
    out: Path | None = None,
    *,
    force: bool = False,
    staged: bool = True,
    resume: str | None = None,
    worth: Sequence[str] = (),
) -> Iterator[RunFolder]:
    """Own a run folder: ``out``, or ``runs/NAME-TIMESTAMP``.

    Its place, the permission and some room are known before the block begins. If the block ends with an
    error, what it wrote is removed unless something of it can be used, and what was there before is as it
    was. With ``force`` the old run's files go when `RunFolder.finish` puts the new ones in their place.

    Args:
        name: Of the run.
        out: The folder that was asked for.
        force: Whether an old run in it may be replaced.
        staged: Whether all is written before any of it is in the folder; else only where an old run is there.
        resume: The kind of run to go on with, if there is one; there may be none.
        worth: See `RunFolder`.

    Raises:
        InputError: The folder cannot be written to, is in use, or holds something else.
    """
    made: list[Path] = []
    try:
        path = _make(name, out, made)
        if resume is None:
            _check_contents(path, force)
        with locked(path):
            own = _begin(path, force, staged, resume, worth)
            try:
                with naming(path):
                    yield own
            finally:
                own.clear()
    finally:
        _unmake(made)


def work_of(path: Path) -> Path:
    """Where the run in a folder writes that is to replace an older one; the folder itself, without one."""
    return path / PARTIAL if (path / PARTIAL / RECORD).is_file() else path


# ---- the pieces --------------------------------------------------------------------------------------


def _begin(path: Path, force: bool, staged: bool, resume: str | None, worth: Sequence[str]) -> RunFolder:
    """Look at what is in a folder that is locked."""
    finish_replacing(path, own_names(path), own_names(path / READY), RECORD)
    if resume is not None:
        work = work_of(path)
        kind = read_kind(work)
        if kind not in (None, resume):
            hint = f"Give the folder of a '{resume}', or another --out."
            raise InputError(Fault(f"holds a '{kind}', expected a '{resume}'", hint=hint, where=str(path)))
        if kind is not None:
            _sweep(work, worth)
            return RunFolder(path, work, goes_on=True, worth=worth)
    _check_contents(path, force)
    for name in {PARTIAL, *_unfinished(path)}:
        remove(path / name)
    if not staged and not (path / RECORD).exists():
        return RunFolder(path, path, worth=worth)
    (path / PARTIAL).mkdir()
    return RunFolder(path, path / PARTIAL, worth=worth)


def _make(name: str, out: Path | None, made: list[Path]) -> Path:
    """The folder, which is there and can be written to; ``made`` gets the folders that were not there."""
    try:
        path = _default(name, made) if out is None else out
        if path.is_symlink() and not path.exists():
            raise InputError(Fault("is a link to nothing", hint="Make that folder first.", where=str(path)))
        nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise InputError(Fault("is a file, expected a folder for the run", where=str(nearest)))
        _make_folders(path, made)
        with naming(path), tempfile.TemporaryFile(dir=path) as probe:
            probe.write(bytes(PROBE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        where = str(error.filename or out or "runs")
        message = f"cannot be written to: {reason[:1].lower()}{reason[1:]}"
        raise InputError(Fault(message, hint="Choose another --out.", where=where)) from None
    return path


def _default(name: str, made: list[Path]) -> Path:
    """A new folder in ``runs``; `mkdir` decides who gets the name."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        path = Path("runs") / (f"{name}-{stamp}" if number == 1 else f"{name}-{stamp}-{number}")
        _make_folders(path.parent, made)
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        except FileNotFoundError:  # another run, which failed, has taken its empty 'runs' away
            continue
        else:
            made.append(path)
            return path


def _make_folders(path: Path, made: list[Path]) -> None:
    for folder in (*reversed(path.absolute().parents), path):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError:
            if folder.is_dir():  # such as '/' where the disk is read-only
                continue
            raise
        made.append(folder)


def _unmake(made: list[Path]) -> None:
    """Remove the folders that were made and hold nothing."""
    for folder in reversed(made):
        with suppress(OSError):
            folder.rmdir()


def _sweep(folder: Path, worth: Sequence[str]) -> None:
    """Remove the unfinished files that a process which was killed has left behind."""
    hidden = [path for path in folder.glob(".*") if path.name not in OURS]
    names = tuple(f".{name}." for name in own_names(folder))
    for path in hidden:
        if path.name.startswith(names):
            remove(path)
    for path in (path for name in worth for path in (folder / name).glob(".*")):
        remove(path)


def _unfinished(path: Path) -> set[str]:
    """Names of what a command left that was killed while it wrote the first file of its run."""
    names = tuple(f".{name}." for name in KNOWN)
    return {one.name for one in path.iterdir() if one.is_file() and one.name.startswith(names)}


def _check_contents(path: Path, force: bool) -> None:
    """Make sure that a folder is empty, or holds a run that may be replaced."""
    unfinished = _unfinished(path)  # looked for first: one that is finished in between is seen
    if all(one.name in OURS | unfinished for one in path.iterdir()):
        return
    if not force:
        raise InputError(Fault("exists already", hint="Choose another folder, or --force.", where=str(path)))
    if not (path / RECORD).is_file():
        hint = "Choose another folder; --force replaces nothing but runs."
        raise InputError(Fault(f"is no run folder: it holds no '{RECORD}'", hint=hint, where=str(path)))
