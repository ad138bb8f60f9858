"""A study file becomes wirings: every arm, drawn arm, grid point and lesion with its whole spec."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pcgraph.building.network import build, weight_file
from pcgraph.errors import Fault, FieldPath, PCGraphError, SpecError, closest, join_path
from pcgraph.graph import PCGraph
from pcgraph.spec import Edge, Spec, parse_spec, wire
from pcgraph.spec.dump import pinned, rooted
from pcgraph.study.drawn import below, shuffled
from pcgraph.study.fields import EDGE_FIELDS, check_changeable, check_moves
from pcgraph.study.file import MOST_ARMS, Arm, Control, Grid, Lesions, Shuffle, Study
from pcgraph.study.values import base_values, laid, set_field, short_names, with_field


@dataclass(frozen=True)
class Wiring:
    """One row of a study.

    Attributes:
        name: Of the arm, drawn arm, grid point or lesion.
        spec: What it is.
        edges: Its feedback edges, patterns spelt out.
        cut: The error term that is taken out after the training and tuning, which are the whole arm's.
        of: The arm that it was made from; its own name for an arm of the file.
        control: What learns instead of feedback; None for an arm.
        like: The arm that a control learns as long as.
    """

    name: str
    spec: Spec
    edges: tuple[Edge, ...]
    of: str
    cut: str | None = None
    control: Control | None = None
    like: str | None = None

    @property
    def kind(self) -> Literal["arm", "drawn", "grid", "lesion", "control"]:
        """What it was made by; an arm's name holds no bracket."""
        if self.control is not None:
            return "control"
        if self.cut is not None:
            return "lesion"
        if self.name == self.of:
            return "arm"
        return "grid" if "[" in self.name else "drawn"


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
        for name, control in study.controls.items():
            self._add([self._control(name, control)], ("controls", name))
        asked: list[tuple[str, FieldPath]] = (
            [] if study.reference is None else [(study.reference, ("reference",))]
        )
        for i, two in enumerate(study.contrasts):
            asked += [(name, ("contrasts", i, j)) for j, name in enumerate(two)]
        for name, path in asked:
            self.find(name, path)

    @property
    def wirings(self) -> list[Wiring]:
        """All of them: arms, grid points, lesions, controls, each in the order of the file."""
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
            pairs = below(self.graph)
            if arm.random.edges > len(pairs):
                message = f"{arm.random.edges} edges, and there are {len(pairs)} from a node to one below it"
                raise self._refused(message, (*path, "random", "edges"))
            for draw in range(arm.random.draws):
                rng = np.random.default_rng([arm.random.seed, draw])
                places = sorted(rng.choice(len(pairs), arm.random.edges, replace=False).tolist())
                yield self._drawn(
                    name, draw, arm.random.draws, data, [pairs[place] for place in places], path
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
            hint = "See pcgraph.study.trials.Trials."
            raise self._refused(f"'{name}' is an arm only when the search is done", ("search", "arm"), hint)
        if name not in self._whole:
            self._whole[name] = self.made(name, self.study.arms[name])
        return self._whole[name]

    def made(self, name: str, arm: Arm) -> Wiring:
        """The wiring of an arm that is not drawn, whether the file has it or not.

        Raises:
            SpecError: It is no spec; at its place in ``arms``.
        """
        path: FieldPath = ("arms", name)
        data = self._laid(arm, path)
        if arm.feedback is not None:
            data["feedback"] = arm.feedback
        return self._wiring(name, data, path)

    def _laid(self, arm: Arm, path: FieldPath) -> dict[str, Any]:
        """The base with an arm's own fields."""
        for field, value in arm.spec.items():
            below = list(value) if field in ("train", "tune") and isinstance(value, dict) else []
            for one in below or [None]:
                check_changeable(self.study, [field, *([one] if one else [])], (*path, "spec", field))
        return laid({**self._base, **({"weights": None} if "weights" in arm.spec else {})}, arm.spec)

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
        count = math.prod(map(len, grid.fields.values()))
        if count > MOST_ARMS:
            raise self._refused(f"{count} combinations, expected at most {MOST_ARMS}", path)
        whole = self._plain(grid.arm)
        for field in grid.fields:
            if field not in EDGE_FIELDS:
                check_changeable(self.study, field.split("."), (*path, field))
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
            check_moves(self.study, self.graph, found.spec, found.edges, grid.fields, path)
            yield replace(found, of=grid.arm)

    def _lesions(self, lesions: Lesions, path: FieldPath) -> Iterator[Wiring]:
        whole = self._plain(lesions.of)
        if not whole.edges:
            raise self._refused(f"'{lesions.of}' has no feedback edge to take out", (*path, "of"))
        for term, edges in self._graph(whole.spec).terms.items():
            if edges[0].kind == "feedback":
                yield replace(whole, name=f"{whole.name} without {term}", cut=term)

    def _control(self, name: str, control: Control) -> Wiring:
        path: FieldPath = ("controls", name)
        if self.study.tune is None:
            hint = "Write 'tune: ...' at the top level of the study."
            raise self._refused(
                "a control learns from the images of the tuning, and there is none", path, hint
            )
        like = self.find(control.like or self.study.reference or next(iter(self._found)), (*path, "like"))
        if not like.edges:
            hint = "Write 'like: ARM'."
            message = f"'{like.name}' has no feedback, and so no updates that '{name}' could have as many of"
            raise self._refused(message, (*path, "like") if control.like else path, hint)
        data = {**self._base, "feedback": "none"}
        if control.optimizer is not None:
            data["tune"] = {**data["tune"], "optimizer": control.optimizer.model_dump(exclude_defaults=True)}
        return replace(self._wiring(name, data, path), control=control, like=like.name)

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

    def _shuffled(self, shuffle: Shuffle, draw: int, path: FieldPath) -> list[tuple[str, str]]:
        whole = self._plain(shuffle.of)
        pairs = [(edge.sources[0], edge.target) for edge in whole.edges]
        if any(len(edge.sources) > 1 for edge in whole.edges):
            raise self._refused(f"'{shuffle.of}' has edges of several sources", path)
        found = shuffled(pairs, below(self.graph), [shuffle.seed, draw])
        if found is None:
            hint = "Take an arm with more edges, or 'random'."
            raise self._refused(f"no two edges of '{shuffle.of}' can exchange their ends", path, hint)
        return found


def _several(given: Any, field: str) -> Iterator[tuple[FieldPath, Any]]:
    if isinstance(given, list):
        yield from (((field, index), one) for index, one in enumerate(given))
    elif given is not None:
        yield (field,), given
