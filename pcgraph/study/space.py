"""What a search may propose: which edges, and which values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.drawn import below
from pcgraph.study.fields import EDGE_FIELDS, check_moves
from pcgraph.study.file import Arm
from pcgraph.study.gathering import gathering, refuse_all
from pcgraph.study.search import Range, Search
from pcgraph.study.values import edge_name, set_field

Values = dict[str, Any]
"""What was drawn, by name."""
FEEDBACK = "feedback"


class Draws(Protocol):
    """What draws values: a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of some values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from a range."""


class Space:
    """The wirings that a search may propose.

    Args:
        search: The section of the file.
        arms: The wirings of the same study.

    Attributes:
        names: Of all that is drawn: edges, values of edges, fields.
        probes: All edges; and these with each value of a list, or end of a range, alone.

    Raises:
        SpecError: A value that the spec refuses, or that changes nothing; at its place in the file.
    """

    def __init__(self, search: Search, arms: Arms) -> None:
        self.search, self.arms = search, arms
        self._fed = arms.wirings[0].spec.dynamics.rule == "predify"
        self._each: dict[str, Any] = {str(field): given for field, given in search.each.items()}
        self._choices = list(self._wirings())
        every = [name for edges in self._choices for name in edges]
        self._edges = list(dict.fromkeys(every))
        faults = list(self._field_faults())
        first = [] if search.feedback else self._edges
        self.names = [
            *(first or [FEEDBACK]),
            *(f"{edge} {field}" for edge in self._edges for field in self._each),
            *search.fields,
        ]
        self.probes: list[Wiring] = []
        for choice in range(len(self._choices)):
            with gathering(faults):
                self.probes.append(self._probe(self._whole(choice), ("search",)))
                self._try_values(choice, faults)
        refuse_all(arms.study, faults)

    # ---- proposals -----------------------------------------------------------------------------

    def draw(self, trial: Draws) -> Values:
        """The values of a proposal, by name; those that it does not need are not drawn."""
        if self.search.feedback:
            found = {FEEDBACK: trial.suggest_categorical(FEEDBACK, list(range(len(self._choices))))}
        else:
            found = {name: trial.suggest_categorical(name, [False, True]) for name in self._edges}
        for edge in self._there(found):
            for field, given in self._each.items():
                found[f"{edge} {field}"] = _drawn(trial, f"{edge} {field}", given)
        if self._there(found):
            for field, given in self.search.fields.items():
                found[field] = _drawn(trial, field, given)
        return found

    def arm(self, drawn: Mapping[str, Any]) -> Arm:
        """The arm that drawn values mean."""
        edges: list[dict[str, Any]] = []
        for name, edge in self._there(drawn).items():
            own = {field: f"{name} {field}" for field in self._each if f"{name} {field}" in drawn}
            edges.append({**edge, **{field: self._value(drawn, at, field) for field, at in own.items()}})
        spec: dict[str, Any] = {}
        for field in [one for one in self.search.fields if one in drawn]:
            value = self._value(drawn, field, field)
            if field in EDGE_FIELDS:
                edges = [{**edge, field: value} for edge in edges]
            else:
                set_field(spec, field.split("."), value)
        return Arm(feedback=edges or "none", spec=spec)

    def shown(self, drawn: Mapping[str, Any]) -> Values:
        """Drawn values as a person reads them."""
        found = dict(drawn)
        if FEEDBACK in drawn:
            found[FEEDBACK] = _plain((self.search.feedback or [])[drawn[FEEDBACK]])
        for name in drawn:
            field = name.rpartition(" ")[2]
            if field in self._each or field in self.search.fields:
                found[name] = _plain(self._value(drawn, name, field))
        return found

    def _there(self, drawn: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The edges of a proposal, by name."""
        if self.search.feedback:
            taken: int = drawn[FEEDBACK]
            return self._choices[taken]
        return {name: edge for name, edge in self._choices[0].items() if drawn[name]}

    def _value(self, drawn: Mapping[str, Any], name: str, field: str) -> Any:
        given = self._each[field] if field in self._each else self.search.fields[field]
        return drawn[name] if isinstance(given, Range) else given[drawn[name]]

    # ---- checks --------------------------------------------------------------------------------

    def _wirings(self) -> Iterator[dict[str, dict[str, Any]]]:
        """All edges; or those of each wiring that may be taken."""
        search = self.search
        if search.feedback:
            for index, given in enumerate(search.feedback):
                yield self._spelt(given, ("search", "feedback", index))
        elif search.edges == "all":
            pairs = [{"source": source, "target": target} for source, target in below(self.arms.graph)]
            yield self._spelt(pairs, ("search", "edges"))
        else:
            given = [one.model_dump(mode="json", exclude_defaults=True) for one in search.edges or ()]
            yield self._spelt(given, ("search", "edges"))

    def _spelt(self, feedback: Any, path: FieldPath) -> dict[str, dict[str, Any]]:
        """Feedback as edges by name."""
        wiring = self._made(Arm(feedback=feedback, spec=self._lenient({})), path)
        found = {}
        for edge in wiring.edges:
            name = edge_name(edge)
            if name in found:
                raise self._refused(f"two edges '{name}'", path, "Give one of them.")
            found[name] = edge.model_dump(mode="json", exclude_defaults=True)
        return found

    def _field_faults(self) -> Iterator[Fault]:
        """Fields that cannot be drawn, or would change nothing."""
        for field in self.search.fields:
            path: FieldPath = ("search", "fields", field)
            if field.split(".")[0] == FEEDBACK:
                yield Fault("the wiring is no field", path, "Write 'feedback' or 'edges' beside it.")
            if field == "dynamics.feedback" and "gain" in (*self._each, *self.search.fields):
                message = "every edge has a drawn 'gain', so this changes nothing"
                yield Fault(message, path, "Draw one of the two.")

    def _try_values(self, choice: int, faults: list[Fault]) -> None:
        """Make the wirings with each value alone; what the spec refuses goes to the faults."""
        wiring, edges = self._whole(choice), self._choices[choice]
        for field, given in self._each.items():
            for place, end in enumerate(_ends(given)):
                values = wiring | {f"{edge} {field}": end for edge in edges}
                with gathering(faults):
                    self.probes.append(self._probe(values, _at(("search", "each", field), given, place)))
        for field, given in self.search.fields.items():
            for place, end in enumerate(_ends(given)):
                path = _at(("search", "fields", field), given, place)
                with gathering(faults):
                    self.probes.append(self._probe(wiring | {field: end}, path, field))

    def _whole(self, choice: int) -> Values:
        """The wiring of a choice with all of its edges."""
        return {FEEDBACK: choice} if self.search.feedback else dict.fromkeys(self._choices[choice], True)

    def _probe(self, values: Values, path: FieldPath, field: str = "") -> Wiring:
        arm = self.arm(values)
        made = self._made(arm.model_copy(update={"spec": self._lenient(arm.spec)}), path)
        if field:
            check_moves(self.arms.study, self.arms.graph, made.spec, made.edges, [field], path[:2])
        return made

    def _lenient(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A spec in which gains may be too large together, as they are not with fewer edges."""
        if not self._fed:
            return spec
        return {**spec, "dynamics": {"allow_negative_memory": True, **spec.get("dynamics", {})}}

    def stand_in(self) -> Arm:
        """An arm with all edges and the first of all values, for what will be found."""
        choice = max(range(len(self._choices)), key=lambda one: len(self._choices[one]))
        values = self._whole(choice)
        for name in self._choices[choice]:
            values |= {f"{name} {field}": _ends(given)[0] for field, given in self._each.items()}
        values |= {field: _ends(given)[0] for field, given in self.search.fields.items()}
        arm = self.arm(values)
        return arm.model_copy(update={"spec": self._lenient(arm.spec)})

    def _made(self, arm: Arm, path: FieldPath) -> Wiring:
        try:
            return self.arms.made(self.search.arm, arm)
        except SpecError as error:
            faults = [replace(fault, path=path, where="") for fault in error.faults]
            raise SpecError(self.arms.study.located(fault) for fault in faults[:1]) from None

    def _refused(self, message: str, path: FieldPath, hint: str) -> SpecError:
        return SpecError(self.arms.study.located(Fault(message, path, hint)))


def _drawn(trial: Draws, name: str, given: Any) -> Any:
    """A number of a range, or the place of a value in a list."""
    if isinstance(given, Range):
        return trial.suggest_float(name, given.low, given.high, log=given.log)
    return trial.suggest_categorical(name, list(range(len(given))))


def _ends(given: Any) -> list[Any]:
    """The ends of a range, or the places of all values of a list."""
    return [given.low, given.high] if isinstance(given, Range) else list(range(len(given)))


def _at(path: FieldPath, given: Any, place: int) -> FieldPath:
    return (*path, ("low", "high")[place] if isinstance(given, Range) else place)


def _plain(value: Any) -> Any:
    """A value as it stands in a table."""
    return value if isinstance(value, (str, int, float)) else json.dumps(value)
