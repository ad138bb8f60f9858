"""``run.json``: what says that a folder is a run's, what was run, and what its files' checksums are."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcgraph.errors import Fault, InputError, join_path
from pcgraph.files.seals import FILES, check_file, check_record, seal, to_json
from pcgraph.files.writing import write_text

if TYPE_CHECKING:
    from pcgraph.spec import Spec

RECORD = "run.json"
FORMAT = 2
"""Of what a command goes on from; another one's is refused."""
FOLDERS = "folders"
"""Field with the names of the folders that a run makes in its own."""
KNOWN = {
    *(RECORD, "spec.yaml", "metrics.csv", "losses.csv", "evaluation.csv", "report.html"),
    *("tensors.safetensors", "images.safetensors", "weights.safetensors", "backbone.safetensors"),
}
"""Files of a run that was ended before it could list them."""


def write_record(folder: Path, spec: Spec, values: Mapping[str, Any], names: Iterable[str] = ()) -> None:
    """Write ``run.json``.

    Args:
        folder: Where to.
        spec: What was run.
        values: What it holds besides versions, time and spec.
        names: Files of the run that are written and stay as they are.
    """
    full = {
        **values,
        "versions": versions(),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "spec": resolved(spec),
    }
    write_text(folder / RECORD, to_json(seal(full, folder, names)))


def add_files(folder: Path, names: Iterable[str]) -> None:
    """List more files in ``run.json``."""
    values = check_record(folder / RECORD)
    own = {name: value for name, value in values.items() if name not in (FILES, "sha256")}
    write_text(folder / RECORD, to_json(seal(own, folder, {*values.get(FILES, {}), *names})))


def read_kind(folder: Path) -> str | None:
    """The kind of run that a folder holds; None if it holds none.

    Raises:
        InputError: ``run.json`` is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    kind = check_record(path).get("kind", "run")
    return kind if isinstance(kind, str) else "run"


def own_names(folder: Path) -> set[str]:
    """Names of what a run wrote, or may have written, into a folder; nothing else in it is touched."""
    if not (folder / RECORD).is_file():
        return set()
    try:
        record = check_record(folder / RECORD)
    except InputError:
        return KNOWN
    listed = [*record.get(FILES, ()), *record.get(FOLDERS, ())]
    return KNOWN | {name for name in listed if Path(name).name == name and name not in ("", ".", "..")}


def check_written(path: Path) -> None:
    """Make sure that a file is what its run wrote, if it is in the folder of one.

    Raises:
        InputError: It is damaged.
    """
    check_file(path, RECORD)


def resolved(spec: Spec) -> dict[str, Any]:
    """A spec with everything that it leaves out."""
    values: dict[str, Any] = spec.model_dump(mode="json", exclude={"extends"})
    return values


def check_same(folder: Path, kind: str, settings: Mapping[str, Any]) -> None:
    """Make sure that what was begun in a folder had the same settings.

    Args:
        folder: The run folder.
        kind: Of the run.
        settings: Plain values that must be what ``run.json`` has as ``settings``.

    Raises:
        InputError: It had others, says which; or is another kind of run.
    """
    before = check_record(folder / RECORD)
    if before.get("kind") != kind:
        raise InputError(Fault("is the folder of another kind of run", where=str(folder)))
    hint = "Give the same settings, or another --out."
    faults = [
        Fault(f"{join_path(path)} was {old!r}, now it is {new!r}", hint=hint, where=str(folder))
        for path, old, new in differences(before.get("settings"), settings)
    ]
    if faults:
        raise InputError(faults)


def differences(old: Any, new: Any, path: tuple[str | int, ...] = ()) -> list[tuple[Any, Any, Any]]:
    """Where two plain values differ: field path, old and new."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*new, *old])
        return [found for key in keys for found in differences(old.get(key), new.get(key), (*path, key))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [found for place, pair in pairs for found in differences(*pair, (*path, place))]
    return [] if old == new else [(path or ("settings",), old, new)]


def versions() -> dict[str, str]:
    """Versions of pcgraph, of Python, and of the libraries that are in use."""
    import torch

    from pcgraph import __version__

    found = {"pcgraph": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("torchvision", "timm", "numpy"):
        if name in sys.modules:
            found[name] = metadata.version(name)
    return found
