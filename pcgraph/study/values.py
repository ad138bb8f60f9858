"""The plain values of a study's specs: the base as the file wants it, and other values laid over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pcgraph import graph
from pcgraph.errors import Fault, SpecError, closest
from pcgraph.spec import Edge, load_spec
from pcgraph.spec.documents import spec_file
from pcgraph.spec.dump import pinned, rooted
from pcgraph.spec.extending import field_names, remove
from pcgraph.study.file import Study


def base_values(study: Study) -> dict[str, Any]:
    """The base as plain values, with full paths and digests of its files; what is reset is taken out.

    Raises:
        SpecError: The base cannot be read, or a field that is reset is not there.
    """
    try:
        file = spec_file(study.base)
        file = file if file.is_absolute() else study.folder / file
        data: dict[str, Any] = pinned(rooted(load_spec(file))).dump()
    except SpecError as error:
        whole = [fault for fault in error.faults if not fault.path]  # about the file, not about what it says
        if not whole:
            raise
        faults = [Fault(f"'{study.base}': {fault.message}", ("base",), fault.hint) for fault in whole]
        raise SpecError(study.located(fault) for fault in faults) from None
    _take_out(study, data)
    if study.share is not None:
        data["dynamics"] = {**data.get("dynamics", {}), "share": study.share.model_dump()}
    for section in ("train", "tune"):
        given = getattr(study, section)
        if given is not None:
            own = {name: value for name, value in given.items() if name != "edges"}
            data[section] = laid(data.get(section, {}), own)
    if study.train is None and "weights" in data:
        weights = data["weights"] if isinstance(data["weights"], dict) else {"file": data["weights"]}
        data["weights"] = {**weights, "strict": False}  # arms have some of its edges each
    elif study.train is not None:
        data.pop("weights", None)
    return data


def _take_out(study: Study, data: dict[str, Any]) -> None:
    """Take out what is reset, in place.

    Raises:
        SpecError: Fields are not there.
    """
    known, lacking = list(field_names(data)), []
    for index, field in enumerate(study.reset):
        if not remove(data, field.split(".")):
            message = f"the base has no field '{field}' to take out"
            lacking.append(study.located(Fault(message, ("reset", index), closest(field, known))))
    if lacking:
        raise SpecError(lacking)


def laid(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Values laid over others: mappings are merged, all else is replaced."""
    found = dict(base)
    for name, value in top.items():
        below = found.get(name)
        found[name] = laid(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return found


def set_field(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Give a field another value; mappings on the way to it are copied, and made where there are none."""
    for name in path[:-1]:
        below = data.get(name)
        data[name] = data = dict(below) if isinstance(below, dict) else {}
    data[path[-1]] = value


def with_field(given: Any, edges: Sequence[Edge], field: str, value: Any) -> list[Any]:
    """The feedback with another value in the edges that are written out, or in all of them."""
    items = given if isinstance(given, list) else [given]
    written = [isinstance(item, dict) and "source" in item for item in items]
    if not any(written):
        items = [edge.model_dump(mode="json", exclude_defaults=True) for edge in edges]
        written = [True] * len(items)
    return [{**item, field: value} if own else item for item, own in zip(items, written, strict=True)]


def edge_name(edge: Edge) -> str:
    """``e2->e1``."""
    return graph.edge_name(edge.sources, edge.target)


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """The last part of each path, or all of it where others end alike."""
    paths = set(fields)
    ends = Counter(path.rpartition(".")[2] for path in paths)
    return {path: end if ends[end := path.rpartition(".")[2]] == 1 else path for path in paths}
