"""Where the fields of a spec stand in its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcgraph.errors import Fault, FieldPath

DEPTH_LIMIT = 40
"""Levels of nesting; a spec has about ten."""
SIZE_LIMIT = 100_000
"""Values in one file, aliases written out; a large spec has about a thousand."""


@dataclass(frozen=True, order=True)
class Place:
    """A character of a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


Places = dict[FieldPath, Place]


@dataclass(frozen=True)
class Document:
    """What one file says: plain values, and the place of every field.

    A field of a mapping stands where its key stands, an item of a list where it begins.
    """

    data: dict[str, Any]
    places: Places = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What a spec remembers of the file(s) that it was read from."""

    places: Mapping[FieldPath, Place] = field(default_factory=dict)
    folder: Path = Path()

    def place(self, path: FieldPath) -> Place | None:
        """The place of a field, or of the nearest enclosing field that stands in a file."""
        for length in range(len(path), -1, -1):
            if found := self.places.get(path[:length]):
                return found
        return None

    def locate(self, path: FieldPath) -> str:
        """``file:line:column`` of that place; empty when there is no file."""
        return str(self.place(path) or "")


def too_deep(where: str) -> Fault:
    """The fault of a file that nests deeper than any spec."""
    return Fault(f"nested more than {DEPTH_LIMIT} levels deep; a spec has about ten", where=where)


def too_large(where: str) -> Fault:
    """The fault of a file that holds more values than any spec."""
    return Fault(f"more than {SIZE_LIMIT} values (aliases written out); this is no spec", where=where)


def duplicate(key: str, path: FieldPath, first: Place, second: Place) -> Fault:
    """The fault of a key that stands twice in one mapping."""
    return Fault(
        f"'{key}' is given twice, first on line {first.line}",
        (*path, key),
        "Keep one of the two.",
        str(second),
    )


def has(data: Any, part: str | int) -> bool:
    """Whether ``part`` is a field of the mapping ``data``, or an item of the list ``data``."""
    return (isinstance(data, dict) and part in data) or (
        isinstance(data, list) and isinstance(part, int) and 0 <= part < len(data)
    )


def show(value: object) -> str:
    """A value as a user would recognise it in a message: short, and in the words of the file."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a mapping of {_some(value)}" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    text = f"'{value}'" if isinstance(value, str) else _number(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1] if isinstance(value, str) else ''}"


def _some(value: Mapping[Any, Any]) -> str:
    keys = [f"'{key}'" for key in value]
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _number(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits has no decimal text
        return "a huge number"
