"""Checksums: a JSON record that holds its own and those of the files beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pcgraph.errors import Fault, InputError

FILES, SEAL = "files", "sha256"
"""Fields of a sealed record: checksums by name, and that of the record without this field."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(values: Any) -> str:
    """SHA-256 of plain values, the same whatever the order of the keys."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(values)), sort_keys=True).encode()).hexdigest()


def seal(values: Mapping[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """A record with the checksums of some files in a folder, and its own."""
    sealed = {**values, FILES: {name: file_digest(folder / name) for name in sorted(names)}}
    return {**sealed, SEAL: digest(sealed)}


def to_json(values: Mapping[str, Any]) -> str:
    """JSON text that is UTF-8 even where a file's name is not: that is escaped, as JSON does it."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_whole(values: Mapping[str, Any]) -> bool:
    """Whether a record is as it was sealed; True for one that never was."""
    return SEAL not in values or digest({k: v for k, v in values.items() if k != SEAL}) == values[SEAL]


def check_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        InputError: It cannot be read, or is not as it was written.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise InputError(Fault(f"is not valid JSON: {error.msg}", where=place)) from None
    except UnicodeDecodeError:
        raise InputError(Fault("is not UTF-8 text", where=str(path))) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Fault(f"cannot be read: {error}", where=str(path))) from None
    if not isinstance(values, dict):
        raise InputError(Fault(f"expected a mapping, got {type(values).__name__}", where=str(path)))
    if not is_whole(values):
        raise damaged(path)
    return values


def check_file(path: Path, record: str) -> None:
    """Make sure that a file is as the record beside it says; nothing where none does.

    Args:
        path: The file.
        record: Name of the record, such as ``run.json``.

    Raises:
        InputError: It is damaged.
    """
    beside = path.parent / record
    if not (beside.is_file() and path.is_file()):
        return
    try:
        known = check_record(beside).get(FILES)
    except InputError:  # the record is, and says nothing of the file
        return
    if isinstance(known, dict) and known.get(path.name, "") not in ("", file_digest(path)):
        raise damaged(path)


def damaged(path: Path) -> InputError:
    """What is said of a file whose checksum differs."""
    hint = "Take it from a copy, or run the command again that wrote it."
    return InputError(Fault("was damaged or changed after it was written", hint=hint, where=str(path)))
