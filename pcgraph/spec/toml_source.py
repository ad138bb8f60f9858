"""TOML text to plain values and the lines of their keys."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.spec.source import DEPTH_LIMIT, SIZE_LIMIT, Document, Place, Places, has, too_deep, too_large

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"^(?P<space>\s*)(?P<open>\[\[?)\s*(?P<key>{_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_ENTRY = re.compile(rf"^(?P<space>\s*)(?P<key>{_DOTTED})\s*=")
_AT = re.compile(r"\s*\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


def parse_toml(text: str, file: str) -> Document:
    """Read a TOML document.

    Keys at the start of a line and table headers have places; what stands inside an inline table or
    an array has the place of the key before it.

    Raises:
        SpecError: The text is no valid TOML, or is empty.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(_syntax_fault(str(error), text, file)) from None
    except RecursionError:
        raise SpecError(too_deep(file)) from None
    except ValueError:
        raise SpecError(Fault("not valid TOML: a number with thousands of digits", where=file)) from None
    if not data:
        raise SpecError(Fault("empty; a spec is a mapping of fields", where=file))
    _measure(data, file)
    return Document(data, _places(text, data, file))


def _syntax_fault(message: str, text: str, file: str) -> Fault:
    found = _AT.search(message)
    problem = message[: found.start()] if found else message
    if found and found["line"]:
        where = f"{file}:{found['line']}:{found['column']}"
    else:
        where = f"{file}:{text.count(chr(10)) + 1}"
    return Fault(f"not valid TOML: {problem[:1].lower()}{problem[1:]}", where=where)


def _measure(data: dict[str, Any], file: str) -> None:
    count = 0
    waiting: list[tuple[Any, int]] = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > DEPTH_LIMIT:
            raise SpecError(too_deep(file))
        if count > SIZE_LIMIT:
            raise SpecError(too_large(file))
        if isinstance(value, (dict, list)):
            items = value.values() if isinstance(value, dict) else value
            waiting += [(item, depth + 1) for item in items]


def _places(text: str, data: dict[str, Any], file: str) -> Places:
    """The places of headers and of keys at the start of a line.

    A line inside a text may pass for one, so only paths that the data has are kept.
    """
    places: Places = {(): Place(file, 1, 1)}
    table: FieldPath = ()
    counts: dict[FieldPath, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _resolve(_parts(header["key"]), counts)
            if header["open"] == "[[":
                counts[table] = counts.get(table, -1) + 1
                _note(places, table, data, Place(file, number, len(header["space"]) + 1))
                table = (*table, counts[table])
            _note(places, table, data, Place(file, number, len(header["space"]) + 1))
        elif entry := _ENTRY.match(line):
            path = table
            for part in _parts(entry["key"]):
                path = (*path, part)
                _note(places, path, data, Place(file, number, len(entry["space"]) + 1))
    return places


def _note(places: Places, path: FieldPath, data: Any, place: Place) -> None:
    for part in path:
        if not has(data, part):
            return
        data = data[part]
    places.setdefault(path, place)


def _parts(key: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, key)]


def _resolve(parts: list[str], counts: dict[FieldPath, int]) -> FieldPath:
    """A header's path; a name of an array of tables means its last table so far."""
    path: FieldPath = ()
    for index, part in enumerate(parts):
        path = (*path, part)
        if path in counts and index < len(parts) - 1:
            path = (*path, counts[path])
    return path
