"""A study file becomes wirings: every arm, drawn arm, grid point and lesion with its whole spec."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np

from pcgraph.building.network import build
from pcgraph.errors import Fault, FieldPath, PCGraphError, SpecError, closest, join_path
from pcgraph.graph import PCGraph
from pcgraph.spec import Edge, Spec, load_spec, parse_spec, wire
from pcgraph.spec.dump import pinned, rooted
from pcgraph.spec.load import spec_file
from pcgraph.study.file import Arm, Grid, Lesions, Shuffle, Study

EDGE_FIELDS = ("delay", "gain", "error", "predictor", "mask")
"""Fields of a grid that mean edges."""
SWAPS = 20
"""Attempts to exchange the ends of two edges, times the number of edges."""


@dataclass(frozen=True)
class Wiring:
    """One row of a study.

    Attributes:
        name: Of the arm, drawn arm, grid point or lesion.
        spec: What it is.
        edges: Its feedback edges, patterns spelt out.
        cut: The error term that is taken out after the training and tuning, which are the whole arm's.
        of: The arm that it was made from; its own name for an arm of the file.
    """

    name: str
    spec: Spec
    edges: tuple[Edge, ...]
    of: str
    cut: str | None = None


class Arms:
    """The wirings of a study.

    Args:
        study: The file.
        trust: Whether ``python:`` references may be imported.

    Attributes:
        graph: The base without feedback.
        wirings: All of them, in the order of the file: arms, grid points, lesions.

    Raises:
        SpecError: An arm that is no spec, at its place in the study file; or two of the same name.
        ModelError: The backbone cannot be had.
    """

    def __init__(self, study: Study, *, trust: bool = False) -> None:
        self.study, self.trust = study, trust
        self._base = base_values(study)
        bare = self._parse({**self._base, "feedback": "none"}, ("base",))
        self.graph = self._graph(bare)
        self._reads = {node: self._fed_by(node) for node in self.graph.nodes}
        self.wirings: list[Wiring] = []
        for name, arm in study.arms.items():
            self.wirings += self._arm(name, arm)
        for path, grid in _several(study.grid, "grid"):
            self.wirings += self._grid(grid, path)
        for _, lesions in _several(study.lesions, "lesions"):
            self.wirings += self._lesions(lesions)
        asked = [
            (name, ("contrasts", i, j)) for i, two in enumerate(study.contrasts) for j, name in enumerate(two)
        ]
        for name, path in asked if study.reference is None else [(study.reference, ("reference",)), *asked]:
            self.find(name, path)
        names = [one.name for one in self.wirings]
        for name in names:
            if names.count(name) > 1:
                raise SpecError(study.located(Fault(f"two arms are called '{name}'", ("arms",))))

    def find(self, name: str, path: FieldPath) -> Wiring:
        """The wiring of a name.

        Raises:
            SpecError: There is none; at ``path``.
        """
        for one in self.wirings:
            if one.name == name:
                return one
        hint = closest(name, [one.name for one in self.wirings])
        raise SpecError(self.study.located(Fault(f"there is no arm '{name}'", path, hint)))

    # ---- kinds of arms -------------------------------------------------------------------------

    def _arm(self, name: str, arm: Arm) -> Iterator[Wiring]:
        data = laid(self._base, arm.spec)
        path: FieldPath = ("arms", name)
        if arm.random is not None:
            below = self._below()
            if arm.random.edges > len(below):
                message = f"{arm.random.edges} edges, and there are {len(below)} from a node to one below it"
                raise self._refused(message, (*path, "random", "edges"))
            for draw in range(arm.random.draws):
                rng = np.random.default_rng([arm.random.seed, draw])
                places = sorted(rng.choice(len(below), arm.random.edges, replace=False).tolist())
                yield self._drawn(
                    name, draw, arm.random.draws, data, [below[place] for place in places], path
                )
        elif arm.shuffle is not None:
            for draw in range(arm.shuffle.draws):
                pairs = self._shuffled(arm.shuffle, draw, (*path, "shuffle"))
                yield self._drawn(name, draw, arm.shuffle.draws, data, pairs, path)
        else:
            if arm.feedback is not None:
                data["feedback"] = arm.feedback
            yield self._wiring(name, data, path)

    def _drawn(
        self,
        name: str,
        draw: int,
        draws: int,
        data: Mapping[str, Any],
        pairs: Sequence[tuple[str, str]],
        path: FieldPath,
    ) -> Wiring:
        edges = [{"source": source, "target": target} for source, target in pairs]
        own = name if draws == 1 else f"{name}-{draw}"
        return replace(self._wiring(own, {**data, "feedback": edges}, path), of=name)

    def _grid(self, grid: Grid, path: FieldPath) -> Iterator[Wiring]:
        whole = self.find(grid.arm, (*path, "arm"))
        arm = self.study.arms[grid.arm]
        for values in itertools.product(*grid.fields.values()):
            point = dict(zip(grid.fields, values, strict=True))
            data = laid(self._base, arm.spec)
            data["feedback"] = whole.spec.dump().get("feedback", "none")
            for field, value in point.items():
                if field in EDGE_FIELDS:
                    data["feedback"] = _with_field(data["feedback"], whole.edges, field, value)
                else:
                    _set(data, field.split("."), value)
            shown = ",".join(f"{field.rpartition('.')[2]}={_short(value)}" for field, value in point.items())
            yield replace(self._wiring(f"{grid.arm}[{shown}]", data, path), of=grid.arm)

    def _lesions(self, lesions: Lesions) -> Iterator[Wiring]:
        whole = self.find(lesions.of, ("lesions", "of"))
        graph = self._graph(whole.spec)
        for term, edges in graph.terms.items():
            if edges[0].kind == "feedback":
                yield replace(whole, name=f"{whole.name} without {term}", cut=term)

    # ---- the pieces ----------------------------------------------------------------------------

    def _wiring(self, name: str, data: Mapping[str, Any], path: FieldPath) -> Wiring:
        spec = self._parse({**data, "name": self.study.study}, path)
        try:
            edges = tuple(edge for edge, _ in wire(spec, self._reads))
        except SpecError as error:
            raise self._moved(error, path) from None
        return Wiring(name, spec, edges, name)

    def _parse(self, data: Mapping[str, Any], path: FieldPath) -> Spec:
        try:
            return parse_spec(data, self.study.folder)
        except SpecError as error:
            raise self._moved(error, path) from None

    def _graph(self, spec: Spec) -> PCGraph:
        return build(spec, trust=self.trust, weights=False).graph

    def _moved(self, error: PCGraphError, path: FieldPath) -> SpecError:
        """Faults of an arm's spec at their places in the study file."""
        faults = []
        for fault in error.faults:
            if fault.path[:1] in (("train",), ("tune",)):  # which are the study's
                faults.append(self.study.located(replace(fault, where="")))
                continue
            inside = fault.path[1:] if fault.path[:1] == ("feedback",) else ()
            field = "" if inside or not fault.path else f"{join_path(fault.path)}: "
            full: FieldPath = (*path, "feedback", *inside)
            short: FieldPath = (*path, *inside)
            place = self.study.located(Fault("", full)).where
            near = self.study.located(Fault("", short)).where
            where = near if inside and near != self.study.located(Fault("", path)).where else place
            faults.append(Fault(f"{field}{fault.message}", short, fault.hint, where))
        return SpecError(faults)

    def _refused(self, message: str, path: FieldPath, hint: str = "") -> SpecError:
        return SpecError(self.study.located(Fault(message, path, hint)))

    def _fed_by(self, node: str) -> list[str]:
        edges = [e for e in self.graph.edges.values() if e.kind == "feedforward" and e.target == node]
        return list(dict.fromkeys(source for edge in edges for source in edge.sources))

    def _below(self) -> list[tuple[str, str]]:
        """All pairs of a node and one that it is computed from."""
        view = nx.DiGraph(self.graph.to_networkx("feedforward"))
        names = list(self.graph.nodes)
        return [(a, b) for a in names for b in names if a != b and b in nx.ancestors(view, a)]

    def _shuffled(self, shuffle: Shuffle, draw: int, path: FieldPath) -> list[tuple[str, str]]:
        whole = self.find(shuffle.of, (*path, "of"))
        pairs = [(edge.sources[0], edge.target) for edge in whole.edges]
        if any(len(edge.sources) > 1 for edge in whole.edges):
            raise self._refused(f"'{shuffle.of}' has edges of several sources", path)
        allowed = set(self._below())
        rng = np.random.default_rng([shuffle.seed, draw])
        moved = False
        for _ in range(SWAPS * len(pairs)):
            one, two = rng.integers(len(pairs), size=2).tolist()
            (a, b), (c, d) = pairs[one], pairs[two]
            if one != two and {(a, d), (c, b)} <= allowed - set(pairs) and (a, d) != (c, b):
                pairs[one], pairs[two], moved = (a, d), (c, b), True
        if not moved:
            hint = "Take an arm with more edges, or 'random'."
            raise self._refused(f"no two edges of '{shuffle.of}' can exchange their ends", path, hint)
        return pairs


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
    for index, field in enumerate(study.reset):
        if not _remove(data, field.split(".")):
            message = f"the base has no field '{field}' to take out"
            raise SpecError(study.located(Fault(message, ("reset", index))))
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


def laid(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Values laid over others: mappings are merged, all else is replaced."""
    found = dict(base)
    for name, value in top.items():
        below = found.get(name)
        found[name] = laid(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return found


def _remove(data: dict[str, Any], path: Sequence[str]) -> bool:
    for name in path[:-1]:
        below = data.get(name)
        if not isinstance(below, dict):
            return False
        data[name] = data = dict(below)
    return data.pop(path[-1], None) is not None


def _set(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        below = data.get(name)
        data[name] = data = dict(below) if isinstance(below, dict) else {}
    data[path[-1]] = value


def _with_field(given: Any, edges: Sequence[Edge], field: str, value: Any) -> list[Any]:
    """The feedback with another value in the edges that are written out, or in all of them."""
    items = given if isinstance(given, list) else [given]
    written = [isinstance(item, dict) and "source" in item for item in items]
    if not any(written):
        items = [edge.model_dump(mode="json", exclude_defaults=True) for edge in edges]
        written = [True] * len(items)
    return [{**item, field: value} if own else item for item, own in zip(items, written, strict=True)]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _several(given: Any, field: str) -> Iterator[tuple[FieldPath, Any]]:
    if isinstance(given, list):
        yield from (((field, index), one) for index, one in enumerate(given))
    elif given is not None:
        yield (field,), given
