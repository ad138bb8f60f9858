"""A study file becomes wirings: every arm, drawn arm, grid point and lesion with its whole spec."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np

from pcgraph.building.network import build, weight_file
from pcgraph.errors import Fault, FieldPath, PCGraphError, SpecError, closest, join_path
from pcgraph.graph import PCGraph
from pcgraph.spec import Edge, Spec, parse_spec, wire
from pcgraph.spec.dump import pinned, rooted
from pcgraph.study.file import Arm, Grid, Lesions, Shuffle, Study
from pcgraph.study.values import base_values, laid, set_field, short_names, with_field

EDGE_FIELDS = ("delay", "gain", "error", "predictor", "mask")
"""Fields of a grid that mean edges."""
GROUND = ("name", "extends", "backbone", "nodes", "edges", "topology")
"""What all arms have in common, and none can change."""
NODE_GAINS = ("feedforward", "feedback", "error")
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

    Raises:
        SpecError: An arm that is no spec, at its place in the study file; or two of the same name.
        ModelError: The backbone cannot be had.
    """

    def __init__(self, study: Study, *, trust: bool = False) -> None:
        self.study, self.trust = study, trust
        self._base = base_values(study)
        bare = self._parse({**self._base, "feedback": "none"}, ("base",))
        if bare.backbone is None:
            hint = "Take a base whose backbone classifies."
            raise self._refused("the base has no backbone, and so no answers to measure", ("base",), hint)
        try:
            self.graph = self._graph(bare)
        except PCGraphError as error:
            raise self._moved(error, ("base",)) from None
        self._reads = {node: self._fed_by(node) for node in self.graph.nodes}
        self._found: dict[str, Wiring] = {}
        self._whole: dict[str, Wiring] = {}
        for name, arm in study.arms.items():
            self._add(self._arm(name, arm), ("arms", name))
        for path, grid in _several(study.grid, "grid"):
            self._add(self._grid(grid, path), path)
        for path, lesions in _several(study.lesions, "lesions"):
            self._add(self._lesions(lesions, path), path)
        asked: list[tuple[str, FieldPath]] = (
            [] if study.reference is None else [(study.reference, ("reference",))]
        )
        for i, two in enumerate(study.contrasts):
            asked += [(name, ("contrasts", i, j)) for j, name in enumerate(two)]
        for name, path in asked:
            self.find(name, path)

    @property
    def wirings(self) -> list[Wiring]:
        """All of them, in the order of the file: arms, grid points, lesions."""
        return list(self._found.values())

    def find(self, name: str, path: FieldPath) -> Wiring:
        """The wiring of a name.

        Raises:
            SpecError: There is none; at ``path``.
        """
        if name not in self._found:
            hint = closest(name, list(self._found))
            raise SpecError(self.study.located(Fault(f"there is no arm '{name}'", path, hint)))
        return self._found[name]

    def _add(self, wirings: Iterable[Wiring], path: FieldPath) -> None:
        for one in wirings:
            if one.name in self._found:
                raise self._refused(f"two arms are called '{one.name}'", path)
            self._found[one.name] = one

    # ---- kinds of arms -------------------------------------------------------------------------

    def _arm(self, name: str, arm: Arm) -> Iterator[Wiring]:
        path: FieldPath = ("arms", name)
        data = self._laid(arm, path)
        if arm.random is not None:
            below = self.below()
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
            yield self._plain(name)

    def _plain(self, name: str) -> Wiring:
        """An arm of the file that is not drawn."""
        if name not in self.study.arms:
            message = f"'{name}' is an arm only when the search is done"
            raise self._refused(message, ("search", "arm"), "See pcgraph.study.trials.Trials.")
        if name not in self._whole:
            self._whole[name] = self.made(name, self.study.arms[name])
        return self._whole[name]

    def made(self, name: str, arm: Arm) -> Wiring:
        """The wiring of an arm that is not drawn, whether the file has it or not.

        Raises:
            SpecError: It is no spec; at its place in ``arms``.
        """
        path = ("arms", name)
        data = self._laid(arm, path)
        if arm.feedback is not None:
            data["feedback"] = arm.feedback
        return self._wiring(name, data, path)

    def _laid(self, arm: Arm, path: FieldPath) -> dict[str, Any]:
        """The base with an arm's own fields."""
        for field, value in arm.spec.items():
            below = list(value) if field in ("train", "tune") and isinstance(value, dict) else []
            for one in below or [None]:
                self._changeable([field, *([one] if one else [])], (*path, "spec", field))
        return laid({**self._base, **({"weights": None} if "weights" in arm.spec else {})}, arm.spec)

    def _changeable(self, field: Sequence[str], path: FieldPath) -> None:
        """Refuse a field of the spec that cannot differ from arm to arm."""
        study, top, name = self.study, field[0], ".".join(field)
        if top in GROUND:
            hint = "Make it the base of another study: it changes what is predicted, not by whom."
            raise self._refused(f"'{name}' is the same in all arms", path, hint)
        if top in ("train", "tune") and getattr(study, top) is None:
            hint = f"Write '{top}: ...' at the top level of the study."
            raise self._refused(f"'{name}' changes nothing: this study has no '{top}'", path, hint)
        if top in ("train", "tune") and field[1:] in (["data"], ["validation"]):
            raise self._refused(
                f"'{name}' is the same in all arms", path, f"Write it under '{top}' of the study."
            )
        if top == "weights" and study.train is not None:
            hint = "Leave out 'train', or make it another study."
            raise self._refused("weights are given to an arm of a study that trains", path, hint)

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
        whole = self._plain(grid.arm)
        for field in grid.fields:
            if field not in EDGE_FIELDS:
                self._changeable(field.split("."), (*path, field))
            elif not whole.edges:
                raise self._refused(f"'{grid.arm}' has no feedback edges with a '{field}'", (*path, field))
        names = short_names(one for _, other in _several(self.study.grid, "grid") for one in other.fields)
        for values in itertools.product(*grid.fields.values()):
            point = dict(zip(grid.fields, values, strict=True))
            data = laid(self._base, self.study.arms[grid.arm].spec)
            data["feedback"] = whole.spec.dump().get("feedback", "none")
            for field, value in point.items():
                if field in EDGE_FIELDS:
                    data["feedback"] = with_field(data["feedback"], whole.edges, field, value)
                else:
                    set_field(data, field.split("."), value)
            shown = ",".join(f"{names[field]}={value}" for field, value in point.items())
            found = self._wiring(f"{grid.arm}[{shown}]", data, path)
            self.moves(found.spec, grid.fields, path)
            yield replace(found, of=grid.arm)

    def moves(self, spec: Spec, fields: Iterable[str], path: FieldPath) -> None:
        """Refuse a field that all nodes have values of their own for, so that it would change nothing.

        Raises:
            SpecError: There is one; below ``path``.
        """
        own = getattr(spec.dynamics, "nodes", {})
        moved = [node for node in self.graph.nodes if node != self.graph.receiver]
        for field in fields:
            section, _, name = field.partition(".")
            if section != "dynamics" or name not in NODE_GAINS:
                continue
            if all(node in own and getattr(own[node], name) is not None for node in moved):
                hint = "Write 'reset: [dynamics.nodes]'."
                raise self._refused(
                    f"every node has its own '{name}', so '{field}' changes nothing", (*path, field), hint
                )

    def _lesions(self, lesions: Lesions, path: FieldPath) -> Iterator[Wiring]:
        whole = self._plain(lesions.of)
        if not whole.edges:
            raise self._refused(f"'{lesions.of}' has no feedback edge to take out", (*path, "of"))
        for term, edges in self._graph(whole.spec).terms.items():
            if edges[0].kind == "feedback":
                yield replace(whole, name=f"{whole.name} without {term}", cut=term)

    # ---- the pieces ----------------------------------------------------------------------------

    def _wiring(self, name: str, data: Mapping[str, Any], path: FieldPath) -> Wiring:
        if isinstance(weights := data.get("weights"), str):
            data = {**data, "weights": {"file": weights, "strict": False}}  # arms have some of its edges each
        spec = self._parse({**data, "name": self.study.study}, path)
        try:
            spec = pinned(rooted(spec))
            if spec.weights is not None:
                weight_file(spec)
            edges = tuple(edge for edge, _ in wire(spec, self._reads))
            self._graph(spec)
        except PCGraphError as error:
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
        return SpecError(self._at_its_place(fault, path) for fault in error.faults)

    def _at_its_place(self, fault: Fault, path: FieldPath) -> Fault:
        if fault.path[:1] in (("train",), ("tune",)) and not self.study.written(
            (*path, "spec", *fault.path), path
        ):
            return self.study.located(replace(fault, where=""))  # which is the study's
        inside = fault.path[1:] if fault.path[:1] == ("feedback",) else ()
        given = [(*path, *inside), (*path, "feedback", *inside)] if inside else []
        swept = [join_path(fault.path), *map(str, fault.path[-1:])]  # a grid's fields
        given += [(*path, part) for part in swept] + [(*path, "spec", *fault.path)]
        found = next((one for one in given if self.study.written(one, path)), (*path, "feedback"))
        field = "" if inside or not fault.path else f"{join_path(fault.path)}: "
        return self.study.located(Fault(f"{field}{fault.message}", found, fault.hint))

    def _refused(self, message: str, path: FieldPath, hint: str = "") -> SpecError:
        return SpecError(self.study.located(Fault(message, path, hint)))

    def _fed_by(self, node: str) -> list[str]:
        edges = [e for e in self.graph.edges.values() if e.kind == "feedforward" and e.target == node]
        return list(dict.fromkeys(source for edge in edges for source in edge.sources))

    def below(self) -> list[tuple[str, str]]:
        """All pairs of a node and one that it is computed from."""
        view = nx.DiGraph(self.graph.to_networkx("feedforward"))
        names = list(self.graph.nodes)
        return [(a, b) for a in names for b in names if a != b and b in nx.ancestors(view, a)]

    def _shuffled(self, shuffle: Shuffle, draw: int, path: FieldPath) -> list[tuple[str, str]]:
        whole = self._plain(shuffle.of)
        pairs = [(edge.sources[0], edge.target) for edge in whole.edges]
        if any(len(edge.sources) > 1 for edge in whole.edges):
            raise self._refused(f"'{shuffle.of}' has edges of several sources", path)
        allowed = set(self.below())
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


def _several(given: Any, field: str) -> Iterator[tuple[FieldPath, Any]]:
    if isinstance(given, list):
        yield from (((field, index), one) for index, one in enumerate(given))
    elif given is not None:
        yield (field,), given
