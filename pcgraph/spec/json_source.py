"""JSON text to plain values and their places."""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.spec.source import (
    DEPTH_LIMIT,
    SIZE_LIMIT,
    Document,
    Place,
    Places,
    duplicate,
    too_deep,
    too_large,
)

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_SCALAR = re.compile(r"[^\s,\]}]+")


def parse_json(text: str, file: str) -> Document:
    """Read one JSON object.

    Raises:
        SpecError: The text is no valid JSON, is no object, or repeats a key.
    """
    if not text.strip():
        raise SpecError(Fault("empty; a spec is a mapping of fields", where=file))
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{file}:{error.lineno}:{error.colno}"
        message = f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        raise SpecError(Fault(message, where=where)) from None
    except RecursionError:
        raise SpecError(too_deep(file)) from None
    except ValueError:
        raise SpecError(Fault("not valid JSON: a number with thousands of digits", where=file)) from None
    reader = _Reader(text, file)
    if not isinstance(data, dict):
        given = "a list" if isinstance(data, list) else "a single value"
        where = str(reader.place(reader.skip(0)))
        raise SpecError(Fault(f"expected a mapping of fields, got {given}", where=where))
    reader.read(0, ())
    if reader.faults:
        raise SpecError(reader.faults)
    return Document(data, reader.places)


class _Reader:
    """Walks through text that is known to be valid JSON and notes where every field stands."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.places: Places = {}
        self.faults: list[Fault] = []
        self._count = 0
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, position: int) -> Place:
        line = bisect_right(self._lines, position)
        return Place(self.file, line, position - self._lines[line - 1] + 1)

    def skip(self, position: int) -> int:
        """The position of the next character that is no white space."""
        found = _SPACE.match(self.text, position)
        return found.end() if found else position

    def read(self, position: int, path: FieldPath) -> int:
        """Note the value that begins at ``position``; returns where it ends."""
        position = self.skip(position)
        self.places.setdefault(path, self.place(position))
        self._count += 1
        if self._count > SIZE_LIMIT:
            raise SpecError(too_large(self.file))
        if len(path) > DEPTH_LIMIT:
            raise SpecError(too_deep(str(self.place(position))))
        match self.text[position]:
            case "{":
                return self._object(position, path)
            case "[":
                return self._list(position, path)
            case '"':
                return self._string(position)[1]
        found = _SCALAR.match(self.text, position)
        return found.end() if found else position + 1

    def _string(self, position: int) -> tuple[str, int]:
        value: tuple[str, int] = _DECODER.raw_decode(self.text, position)
        return value

    def _object(self, position: int, path: FieldPath) -> int:
        first: dict[str, Place] = {}
        position = self.skip(position + 1)
        while self.text[position] != "}":
            place = self.place(position)
            key, position = self._string(position)
            if key in first:
                self.faults.append(duplicate(key, path, first[key], place))
            else:
                first[key] = self.places[*path, key] = place
            position = self.skip(self.read(self.skip(position) + 1, (*path, key)))
            if self.text[position] == ",":
                position = self.skip(position + 1)
        return position + 1

    def _list(self, position: int, path: FieldPath) -> int:
        index = 0
        position = self.skip(position + 1)
        while self.text[position] != "]":
            position = self.skip(self.read(position, (*path, index)))
            index += 1
            if self.text[position] == ",":
                position = self.skip(position + 1)
        return position + 1
