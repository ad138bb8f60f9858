"""Spec files and plain values to a checked `Spec`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.spec.checks import check
from pcgraph.spec.documents import read_document, spec_file
from pcgraph.spec.extending import extended
from pcgraph.spec.faults import translate
from pcgraph.spec.schema import Spec
from pcgraph.spec.source import DEPTH_LIMIT, Document, Place, Source, show, too_deep
from pcgraph.spec.topology import expand
from pcgraph.spec.yaml_source import parse_yaml

SpecLike = Spec | Mapping[str, Any] | str | Path
"""What a spec can be given as: itself, plain values, the path of a file, or the name of a shipped one."""


def load_spec(path: str | Path) -> Spec:
    """Read and check a spec file, and those that it extends.

    Args:
        path: A ``.yaml``, ``.yml``, ``.json`` or ``.toml`` file, or the name of a spec that pcgraph ships,
            such as ``digits``. Text without a suffix and a folder is such a name, whatever the current
            folder holds; ``./digits`` and every `Path` are paths.

    Raises:
        SpecError: The file cannot be read, or the spec is not valid; lists every fault with its
            place in the file.
    """
    file = spec_file(path)
    return validate(extended(read_document(file), file, []), file.parent)


def as_spec(given: SpecLike) -> Spec:
    """The spec that is meant, read and checked where it is not one yet.

    Args:
        given: A spec, plain values (`parse_spec`), or a path or shipped name (`load_spec`).

    Raises:
        SpecError: There is no such spec, it is not valid, or ``given`` is none of these.
    """
    if isinstance(given, Spec):
        return given
    if isinstance(given, Mapping):
        return parse_spec(given)
    if isinstance(given, (str, Path)):
        return load_spec(given)
    kind = type(given).__name__
    raise SpecError(Fault(f"expected a spec, a mapping, a path or the name of a shipped spec, got {kind}"))


def parse_spec(data: Mapping[str, Any] | str, folder: str | Path = ".") -> Spec:
    """Check a spec that is at hand as plain values, or as YAML text.

    Args:
        data: What a spec file would hold.
        folder: Where relative files (`extends`, `weights`) start from.

    Raises:
        SpecError: The spec is not valid; lists every fault.
    """
    if isinstance(data, str):
        document = parse_yaml(data, "<text>")
    elif isinstance(data, Mapping):
        document = Document(_plain(data, ()))
    else:
        raise SpecError(Fault(f"expected a mapping of fields or YAML text, got {type(data).__name__}"))
    document = extended(document, Path(folder) / "<text>", [])
    return validate(document, Path(folder))


def validate(document: Document, folder: Path) -> Spec:
    """Check plain values whose `extends` is already resolved.

    Raises:
        SpecError: The spec is not valid; lists every fault with its place.
    """
    source = Source(document.places, folder)
    plain = {name: value for name, value in document.data.items() if name != "$schema"}
    try:
        document = expand(Document(plain, document.places))
    except SpecError as error:
        raise SpecError(replace(fault, where=source.locate(fault.path)) for fault in error.faults) from None
    source, data = Source(document.places, folder), document.data
    if broken := list(_half_characters(data, ())):
        raise SpecError(replace(fault, where=source.locate(fault.path)) for fault in broken)
    faults: list[Fault] = []
    spec = None
    try:
        spec = Spec.model_validate(data)
    except ValidationError as error:
        faults = translate(error, data)
    if "topology" not in data:  # else it is at fault, and its nodes are not known
        faults += check(data)
    if spec is None or faults:
        end = Place("", 0, 0)
        faults.sort(key=lambda fault: source.place(fault.path) or end)
        raise SpecError(replace(fault, where=source.locate(fault.path)) for fault in faults)
    spec._source = source
    return spec


def _half_characters(value: Any, path: FieldPath) -> Iterator[Fault]:
    """Texts with half of a surrogate pair (JSON can write one): they can be neither shown nor saved."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _half_characters(key, path)
            yield from _half_characters(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _half_characters(item, (*path, index))
    elif isinstance(value, str) and _is_broken(value):
        place = tuple(part if isinstance(part, int) else ascii(part)[1:-1] for part in path)
        yield Fault(f"{value!a} is no text: it holds half of a character", place)


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def _plain(value: Any, path: FieldPath) -> Any:
    """A copy with mappings as dicts and sequences as lists; other values stay for the schema to judge."""
    if len(path) > DEPTH_LIMIT:
        raise SpecError(too_deep(""))
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SpecError(Fault(f"the name of a field must be text, got {show(key)}", path))
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    return value


# ---- files --------------------------------------------------------------------------------------
