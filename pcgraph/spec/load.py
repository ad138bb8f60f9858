"""Spec files and plain values to a checked `Spec`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pcgraph.errors import Fault, FieldPath, SpecError, closest
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.spec.backbone import names_a_file
from pcgraph.spec.checks import check
from pcgraph.spec.faults import translate
from pcgraph.spec.json_source import parse_json
from pcgraph.spec.schema import Spec
from pcgraph.spec.source import DEPTH_LIMIT, Document, Place, Places, Source, show, too_deep
from pcgraph.spec.toml_source import parse_toml
from pcgraph.spec.topology import expand
from pcgraph.spec.weights import is_file_reference, shifted_file
from pcgraph.spec.yaml_source import parse_yaml

PARSERS = {".yaml": parse_yaml, ".yml": parse_yaml, ".json": parse_json, ".toml": parse_toml}
"""File suffixes and what reads them."""
BYTES_LIMIT = 1_000_000
CHAIN_LIMIT = 20
"""Files that one `extends` after another may lead through."""
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
    return validate(_extended(read_document(file), file, []), file.parent)


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
    document = _extended(document, Path(folder) / "<text>", [])
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
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        place = tuple(part if isinstance(part, int) else ascii(part)[1:-1] for part in path)
        yield Fault(f"{value!a} is no text: it holds half of a character", place)


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


def spec_file(reference: str | Path) -> Path:
    """The file that is meant by a path, or by the name of a shipped spec; see `load_spec`.

    Raises:
        SpecError: A name that is neither shipped nor in the current folder.
    """
    path = Path(reference)
    if isinstance(reference, Path) or path.suffix or path.name != reference:
        return path
    if reference in shipped_specs():
        return shipped_spec(reference)
    if os.path.exists(path):
        return path  # which no spec file is called like; reading it says so
    if "\n" in reference:
        raise SpecError(Fault("text of several lines is no path", hint="Read YAML text with `parse_spec`."))
    near = _files_in(Path(), reference)
    hint = near if near.startswith("Did") else closest(reference, shipped_specs())
    raise SpecError(Fault(f"no such file, and no shipped spec is called '{reference}'", hint=hint))


def read_text(path: Path) -> str:
    """The text of a file that a user named.

    Raises:
        SpecError: It is missing (with the files that look like it), a folder, too large, or no text.
    """
    where = str(path)
    try:
        if path.is_dir():
            hint = _files_in(path, path.name)
            raise SpecError(Fault("a folder, expected a spec file", hint=hint, where=where))
        if not path.exists():
            if not path.parent.is_dir():
                raise SpecError(Fault(f"no such file: there is no folder '{path.parent}'", where=where))
            raise SpecError(Fault("no such file", hint=_files_in(path.parent, path.name), where=where))
        if not path.is_file():  # or reading might never end
            raise SpecError(Fault("a pipe, socket or device, expected a spec file", where=where))
        with path.open("rb") as file:
            content = file.read(BYTES_LIMIT + 1)
        if len(content) > BYTES_LIMIT:
            raise SpecError(Fault("larger than a megabyte; this is no spec", where=where))
    except OSError as error:
        raise SpecError(Fault(f"cannot be read: {error.strerror or error}", where=where)) from None
    except ValueError as error:  # a path with a null character
        raise SpecError(Fault(f"cannot be read: {error}")) from None
    if b"\0" in content:
        raise SpecError(Fault("a binary file, expected text", where=where))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        message = f"not UTF-8 text: the byte 0x{content[error.start]:02x}"
        fault = Fault(message, hint="Save the file as UTF-8.", where=f"{where}:{line}:{column}")
        raise SpecError(fault) from None


def _files_in(folder: Path, name: str) -> str:
    """A sentence that names the spec files most like ``name``; their suffixes count for nothing."""
    files = {file.stem: file.name for file in sorted(folder.iterdir()) if file.suffix in PARSERS}
    alike = get_close_matches(Path(name).stem, files, n=3, cutoff=0.6)
    return closest(name, [files[stem] for stem in alike] or files.values())


def read_document(path: Path) -> Document:
    """The plain values of a spec or study file, with their places.

    Raises:
        SpecError: It cannot be read, or has no suffix that says how.
    """
    parser = PARSERS.get(path.suffix.lower())
    if parser is None and not path.is_dir() and (path.exists() or path.suffix):
        message = f"unknown suffix '{path.suffix}'" if path.suffix else "no suffix"
        hint = "A spec file ends in .yaml, .yml, .json or .toml."
        raise SpecError(Fault(message, hint=hint, where=str(path)))
    text = read_text(path)
    return (parser or parse_yaml)(text, str(path))


# ---- extends ------------------------------------------------------------------------------------


def _extended(document: Document, path: Path, chain: list[Path]) -> Document:
    """The document laid over the one that it extends, if it extends one."""
    base = document.data.get("extends")
    if not isinstance(base, str):
        return document  # anything else is the schema's to refuse
    where = Source(document.places).locate(("extends",))
    chain = [*chain, path]
    target = shipped_spec(base) if base in shipped_specs() else Path(os.path.normpath(path.parent / base))
    try:
        seen, real = [file.resolve() for file in chain], target.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a null character
        reason = "links in a circle" if isinstance(error, RuntimeError) else str(error)
        message = f"{show(base)}: cannot be read: {reason}"
        raise SpecError(Fault(message, ("extends",), where=where)) from None
    if real in seen:
        cycle = [file.name for file in chain[seen.index(real) :]]
        message = f"specs extend each other in a circle: {' -> '.join([*cycle, cycle[0]])}"
        raise SpecError(Fault(message, ("extends",), "Let one of them stand alone.", where))
    if len(chain) > CHAIN_LIMIT:
        raise SpecError(Fault(f"more than {CHAIN_LIMIT} files extend each other", ("extends",), where=where))
    try:
        below = read_document(target)
    except SpecError as error:
        if len(error.faults) == 1 and error.faults[0].where == str(target):  # about the file as a whole
            fault, near = error.faults[0], closest(base, shipped_specs())
            hint = near if near.startswith("Did") and not fault.hint.startswith("Did") else fault.hint
            raise SpecError(Fault(f"'{base}': {fault.message}", ("extends",), hint, where)) from None
        raise
    below = _extended(below, target, chain)
    return _merged(_moved(below, target.parent, path.parent), document)


def _moved(document: Document, old: Path, new: Path) -> Document:
    """The document with its relative files (weights, masks) written as seen from another folder."""
    data = dict(document.data)
    if old.resolve() == new.resolve():
        return document
    shift = os.path.relpath(old.resolve(), new.resolve())
    if "weights" in data:
        data["weights"] = _moved_weights(data["weights"], shift)
    backbone = data.get("backbone")
    weights = backbone.get("weights") if isinstance(backbone, dict) else None
    if isinstance(weights, dict) or (isinstance(weights, str) and is_file_reference(weights)):
        data["backbone"] = {**data["backbone"], "weights": _moved_weights(weights, shift)}
    classes = backbone.get("classes") if isinstance(backbone, dict) else None
    if isinstance(classes, str) and names_a_file(classes):
        data["backbone"] = {**data["backbone"], "classes": _shifted(classes, shift)}
    for section in ("edges", "feedback"):
        if isinstance(data.get(section), list):
            data[section] = [_moved_mask(edge, shift) for edge in data[section]]
    return Document(data, document.places)


def _moved_weights(weights: Any, shift: str) -> Any:
    if isinstance(weights, dict) and isinstance(weights.get("file"), str):
        return {**weights, "file": shifted_file(weights["file"], shift)}
    return shifted_file(weights, shift) if isinstance(weights, str) else weights


def _moved_mask(edge: Any, shift: str) -> Any:
    mask = edge.get("mask") if isinstance(edge, dict) else None
    if isinstance(mask, str):
        return {**edge, "mask": _shifted(mask, shift)}
    if isinstance(mask, dict) and isinstance(mask.get("file"), str):
        return {**edge, "mask": {**mask, "file": _shifted(mask["file"], shift)}}
    return edge


def _shifted(file: str, shift: str) -> str:
    return file if os.path.isabs(file) else Path(os.path.normpath(Path(shift) / file)).as_posix()


def _merged(base: Document, top: Document) -> Document:
    data = {name: value for name, value in base.data.items() if name != "extends"}
    places: Places = {path: place for path, place in base.places.items() if path[:1] != ("extends",)}
    over = {name: value for name, value in top.data.items() if name != "extends"}
    rule = over["dynamics"].get("rule") if isinstance(over.get("dynamics"), dict) else None
    below = data["dynamics"].get("rule", "predify") if isinstance(data.get("dynamics"), dict) else rule
    if rule is not None and rule != below:
        data.pop("dynamics")
    replaced: set[FieldPath] = set()
    _lay(data, over, places, top.places, (), replaced)
    kept = {path: at for path, at in places.items() if not _within(path, replaced)}
    return Document(data, kept | {path: at for path, at in top.places.items() if _within(path, replaced)})


def _within(path: FieldPath, fields: set[FieldPath]) -> bool:
    return any(path[:length] in fields for length in range(1, len(path) + 1))


def _lay(
    data: dict[str, Any],
    over: dict[str, Any],
    places: Places,
    new: Places,
    path: FieldPath,
    replaced: set[FieldPath],
) -> None:
    """Lay ``over`` on ``data``, in place: mappings are merged, everything else is noted as replaced."""
    places[path] = new.get(path, places.get(path, Place("", 1, 1)))
    for name, value in over.items():
        here = (*path, name)
        if isinstance(value, dict) and isinstance(data.get(name), dict):
            data[name] = dict(data[name])
            _lay(data[name], value, places, new, here, replaced)
            continue
        data[name] = value
        replaced.add(here)
