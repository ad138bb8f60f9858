"""YAML text to plain values and their places, in one pass and without running anything.

Scalars follow YAML 1.2: ``1e-3`` is a number, and ``no``, ``on`` and ``12:30`` are text. Keys are
always text.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any, cast

import yaml

from pcgraph.errors import Fault, FieldPath, SpecError, join_path
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

LONG = 50_000
"""Characters from which on it matters how fast a text is read; a spec written by hand has a few thousand."""
_TAG = "tag:yaml.org,2002:"
SCALARS: dict[str, tuple[re.Pattern[str], list[str]]] = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    ),
    "merge": (re.compile(r"^<<$"), ["<"]),
}
"""The plain scalars that are not text: how they are written, and their first characters."""


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, in a fifth of the time; where it is there."""


for _kind in (_Loader, _FastLoader):
    _kind.yaml_implicit_resolvers = {}
    for _name, (_pattern, _first) in SCALARS.items():
        _kind.add_implicit_resolver(_TAG + _name, _pattern, _first)


def parse_yaml(text: str, file: str) -> Document:
    """Read one YAML document whose top level is a mapping.

    Raises:
        SpecError: The text is no valid YAML, is empty, holds several documents or something other
            than a mapping, repeats a key, uses tags, or unfolds into something endless.
    """
    try:
        node = _compose(text)
        builder = _Builder(file)
        if node is None:
            raise SpecError(Fault("empty; a spec is a mapping of fields", where=file))
        if not isinstance(node, yaml.MappingNode):
            given = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
            raise SpecError(
                Fault(
                    f"expected a mapping of fields, got {given}",
                    hint="A spec starts with lines such as 'name: NAME'.",
                    where=str(builder.place(node)),
                )
            )
        data = builder.build(node, ())
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax_fault(error, file)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        message = f"not text: the character {text[error.position]!r} is not allowed in YAML"
        raise SpecError(Fault(message, where=f"{file}:{line}:{column}")) from None
    except RecursionError:
        raise SpecError(too_deep(file)) from None
    if builder.faults:
        raise SpecError(builder.faults)
    return Document(data, builder.places)


def _compose(text: str) -> yaml.Node | None:
    """The document's nodes. What is wrong is told by the loader whose messages we know.

    The fast one reads long texts, which programs write. The two disagree on what is rare there: tags, blocks
    of text, tabs, and what is not ASCII.
    """
    if len(text) > LONG and text.isascii() and not set("?!|>\t").intersection(text):
        with contextlib.suppress(yaml.YAMLError, RecursionError):
            return cast("yaml.Node | None", _FastLoader(text).get_single_node())
    return _Loader(text).get_single_node()


def _syntax_fault(error: yaml.MarkedYAMLError, file: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
    problem = error.problem or "it cannot be read"
    context = (error.context or "") if error.context_mark else ""
    if "single document" in context or "another document" in problem:
        message = "a second document starts here; a spec file holds one"
        return Fault(message, hint="Remove the '---'.", where=where)
    if "\\t" in problem:
        return Fault("not valid YAML: a tab", hint="Indent with spaces.", where=where)
    if "mapping values are not allowed" in problem:
        hint = "Is the line above unfinished, or does a text with ': ' lack its quotes?"
        return Fault("not valid YAML: an unexpected ':'", hint=hint, where=where)
    if context and error.context_mark and error.context_mark.line != (mark.line if mark else -1):
        context += f" that begins on line {error.context_mark.line + 1}"
    return Fault(f"not valid YAML: {f'{context}, ' if context else ''}{problem}", where=where)


class _Builder:
    """Turns composed nodes into values, noting places, and refuses what no spec needs."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: Places = {}
        self.faults: list[Fault] = []
        self._count = 0
        self._open: set[int] = set()

    def place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def build(self, node: yaml.Node, path: FieldPath) -> Any:
        self.places.setdefault(path, self.place(node))
        self._count += 1
        if self._count > SIZE_LIMIT:
            raise SpecError(too_large(self.file))
        if id(node) in self._open:
            message = f"an alias contains itself, in '{join_path(path)}'"
            raise SpecError(Fault(message, hint="Write the value out.", where=str(self.place(node))))
        if len(path) > DEPTH_LIMIT:
            raise SpecError(too_deep(str(self.place(node))))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        expected = _TAG + ("map" if isinstance(node, yaml.MappingNode) else "seq")
        if node.tag != expected:
            self._unknown_tag(node, path)
        self._open.add(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = {}
            for key, key_node, value_node in self._entries(node, path):
                self.places[*path, key] = self.place(key_node)
                value[key] = self.build(value_node, (*path, key))
        else:
            value = [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        self._open.discard(id(node))
        return value

    def _entries(self, node: yaml.MappingNode, path: FieldPath) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """A mapping's entries, those of ``<<`` first; its own entries win over merged ones."""
        own: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                message = "the key of a field must be text"
                self.faults.append(Fault(message, path, where=str(self.place(key_node))))
            elif key_node.tag == _TAG + "merge":
                for entry in self._merged(value_node, path):
                    merged.setdefault(entry[0], entry)
            elif key_node.value in own:
                first, second = self.place(own[key_node.value][1]), self.place(key_node)
                self.faults.append(duplicate(key_node.value, path, first, second))
            else:
                own[key_node.value] = (key_node.value, key_node, value_node)
        return list({**merged, **own}.values())

    def _merged(self, node: yaml.Node, path: FieldPath) -> list[tuple[str, yaml.Node, yaml.Node]]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        entries: list[tuple[str, yaml.Node, yaml.Node]] = []
        for part in parts:
            self._count += 1
            if self._count > SIZE_LIMIT:
                raise SpecError(too_large(self.file))
            if not isinstance(part, yaml.MappingNode):
                message = "'<<' takes a mapping, or a list of mappings"
                self.faults.append(Fault(message, path, where=str(self.place(part))))
            elif id(part) in self._open:
                message = "a mapping cannot be merged into itself"
                raise SpecError(Fault(message, path, "Write its fields out.", str(self.place(part))))
            else:
                self._open.add(id(part))
                entries += self._entries(part, path)
                self._open.discard(id(part))
        return entries

    def _scalar(self, node: yaml.ScalarNode, path: FieldPath) -> Any:
        text: str = node.value
        try:
            match node.tag.removeprefix(_TAG):
                case "str" | "merge":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
                case "float":
                    word = text.lower().lstrip("+-")
                    if word in (".inf", ".nan"):
                        return math.copysign(float(word[1:]), -1 if text.startswith("-") else 1)
                    return float(text)
        except (ValueError, KeyError):
            kind = node.tag.removeprefix(_TAG)
            shown = text if len(text) <= 40 else f"{text[:36]}..."
            self.faults.append(Fault(f"'{shown}' is no {kind}", path, where=str(self.place(node))))
            return None
        self._unknown_tag(node, path)
        return None

    def _unknown_tag(self, node: yaml.Node, path: FieldPath) -> None:
        tag = "!!" + node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
        message = f"the tag '{tag}' is not part of the spec language"
        hint = "Tags are never run; write a plain value."
        self.faults.append(Fault(message, path, hint, str(self.place(node))))
