"""``extends``: a spec laid over another one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError, closest
from pcgraph.files.shipped import shipped_spec, shipped_specs
from pcgraph.spec.backbone import names_a_file
from pcgraph.spec.documents import read_document
from pcgraph.spec.source import Document, Place, Places, Source, show
from pcgraph.spec.weights import is_file_reference, shifted_file

ABOUT_FILES = ("extends", "reset")
"""Fields that say how a file lies on another one; no part of the spec."""
CHAIN_LIMIT = 20
"""Files that one `extends` after another may lead through."""


def extended(document: Document, path: Path, chain: list[Path]) -> Document:
    """The document laid over the one that it extends, if it extends one."""
    base = document.data.get("extends")
    if not isinstance(base, str):
        return document  # anything else is the schema's to refuse
    chain = [*chain, path]
    target = shipped_spec(base) if base in shipped_specs() else Path(os.path.normpath(path.parent / base))
    try:
        seen, real = [file.resolve() for file in chain], target.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a null character
        reason = "links in a circle" if isinstance(error, RuntimeError) else str(error)
        message = f"{show(base)}: cannot be read: {reason}"
        raise _refused(document, ("extends",), message) from None
    if real in seen:
        cycle = [file.name for file in chain[seen.index(real) :]]
        message = f"specs extend each other in a circle: {' -> '.join([*cycle, cycle[0]])}"
        raise _refused(document, ("extends",), message, "Let one of them stand alone.")
    if len(chain) > CHAIN_LIMIT:
        raise _refused(document, ("extends",), f"more than {CHAIN_LIMIT} files extend each other")
    try:
        below = read_document(target)
    except SpecError as error:
        if len(error.faults) == 1 and error.faults[0].where == str(target):  # about the file as a whole
            fault, near = error.faults[0], closest(base, shipped_specs())
            hint = near if near.startswith("Did") and not fault.hint.startswith("Did") else fault.hint
            raise _refused(document, ("extends",), f"'{base}': {fault.message}", hint) from None
        raise
    below = _moved(extended(below, target, chain), target.parent, path.parent)
    return _merged(_without(below, document, base), document)


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


def remove(data: dict[str, Any], path: Sequence[str]) -> bool:
    """Take a field out, in place; mappings on the way to it are copied. False if it is not there."""
    for name in path[:-1]:
        below = data.get(name)
        if not isinstance(below, dict):
            return False
        data[name] = data = dict(below)
    if path[-1] not in data:
        return False
    del data[path[-1]]
    return True


def _without(base: Document, top: Document, name: str) -> Document:
    """What a spec extends, without the fields that it resets.

    Raises:
        SpecError: One of them is not there.
    """
    asked = top.data.get("reset", [])
    if not isinstance(asked, list):
        raise _refused(top, ("reset",), f"expected a list of fields, got {show(asked)}")
    data, gone = dict(base.data), set[FieldPath]()
    for index, field in enumerate(asked):
        path = tuple(str(field).split("."))
        if not remove(data, path):
            message = f"'{name}' has no field {show(field)} to take out"
            raise _refused(top, ("reset", index), message, closest(str(field), field_names(data)))
        gone.add(path)
    return Document(data, {path: at for path, at in base.places.items() if not _within(path, gone)})


def _refused(document: Document, path: FieldPath, message: str, hint: str = "") -> SpecError:
    return SpecError(Fault(message, path, hint, Source(document.places).locate(path)))


def field_names(data: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The names of all fields, as `reset` writes them."""
    for name, value in data.items():
        yield above + name
        if isinstance(value, dict):
            yield from field_names(value, f"{above}{name}.")


def _merged(base: Document, top: Document) -> Document:
    data = {name: value for name, value in base.data.items() if name not in ABOUT_FILES}
    places: Places = {
        path: place for path, place in base.places.items() if not (path and path[0] in ABOUT_FILES)
    }
    over = {name: value for name, value in top.data.items() if name not in ABOUT_FILES}
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
