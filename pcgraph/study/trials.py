"""A search: proposals are made, measured on images held out of the training, and the best becomes an arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pcgraph.errors import Fault, InputError, SpecError
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.cells import Cell, in_order
from pcgraph.study.file import Study
from pcgraph.study.gathering import gathering, refuse_all
from pcgraph.study.objectives import NoWorthError, Objectives
from pcgraph.study.plan import Plan
from pcgraph.study.results import to_csv
from pcgraph.study.samplers import Sampler
from pcgraph.study.space import Space, Values
from pcgraph.study.store import CellStore
from pcgraph.study.work import Worker

Compute = Callable[[Sequence[Cell]], None]
"""Computes cells, and keeps what they leave."""


@dataclass
class Trial:
    """One proposal, and what came of it.

    Attributes:
        number: Its place in the search; None for the reference, which is measured like a proposal.
        drawn: What was drawn, by name.
        wiring: What it is; None where it is no spec.
        accuracy: By condition, over seeds and held-out images, at the step that it is judged at.
        steps: That step, by seed.
        values: Its objectives; empty if it was pruned or failed.
        why: What went wrong; empty if nothing did.
    """

    number: int | None
    drawn: Values
    wiring: Wiring | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    why: str = ""

    @property
    def outcome(self) -> str:
        """``complete``, ``pruned`` or ``failed``; ``reference``."""
        if self.number is None:
            return "reference"
        return "complete" if self.values else "failed" if self.why else "pruned"


class Trials:
    """The search of a study.

    Args:
        study: The file; it has a section ``search``.
        trust: Whether ``python:`` references may be imported.

    Attributes:
        stand_in: The study with an arm of all edges, in place of what will be found.
        trials: All proposals.
        reference: The study's reference, on the same images; None where that is no arm of the file.

    Raises:
        SpecError: Something of the section does not fit, at its place.
        InputError: Optuna is not installed, or no image is held out.
    """

    def __init__(self, study: Study, *, trust: bool = False) -> None:
        assert study.search is not None
        self.study, self.search = study, study.search
        faults = list(self._name_faults())
        with gathering(faults):
            arms = Arms(_without_what_names_arms(study), trust=trust)
            plan = Plan(arms.study, arms)
            with gathering(faults):
                faults += self._image_faults(plan, trust)
            with gathering(faults):
                Objectives(self.search, plan)
            self.space = Space(self.search, arms)
            self._sampler = Sampler(study, self.space.draw)
        refuse_all(study, faults)
        self.plan = Plan(arms.study, arms, [*self.space.probes, *arms.wirings])
        self.objectives = Objectives(self.search, self.plan)
        self.stand_in = study.with_arm(self.search.arm, self.space.stand_in())
        self.trials: list[Trial] = []
        asked = study.reference or arms.wirings[0].name
        known = [one for one in arms.wirings if one.name == asked]
        self.reference = Trial(None, {}, known[0]) if known else None

    def run(self, compute: Compute, store: CellStore, advance: Callable[[int], None]) -> None:
        """Make all proposals, a batch at a time, and measure them.

        Args:
            compute: Computes cells.
            store: Where it keeps them.
            advance: Is told how many proposals are done.

        Raises:
            PCGraphError: A cell cannot be computed; what was done is kept.
            InputError: No proposal could be measured.
        """
        if self.reference is not None:
            self._weigh([self.reference], compute, store)
        while len(self.trials) < self.search.trials and not self._sampler.exhausted:
            count = min(self.search.batch, self.search.trials - len(self.trials))
            self._batch(count, compute, store)
            advance(count)
        if not any(one.values for one in self.trials):
            why = self.trials[0].why
            message = f"none of {len(self.trials)} proposals could be measured; the first: {why}"
            raise InputError(self.study.located(Fault(message, ("search",))))

    @property
    def best(self) -> Trial:
        """The best in the first objective; of equal ones in the next; and then the first."""
        return min((one for one in self.trials if one.values), key=self._losses)

    @property
    def front(self) -> list[Trial]:
        """Those that no other is at least as good as in every objective, and better in one."""
        whole = [one for one in self.trials if one.values]
        losses = {self._losses(one) for one in whole}

        def beaten(own: tuple[float, ...]) -> bool:
            return any(two != own and all(a <= b for a, b in zip(two, own, strict=True)) for two in losses)

        return [one for one in whole if not beaten(self._losses(one))]

    @property
    def found(self) -> Study:
        """The study with the best proposal as an arm."""
        return self.study.with_arm(self.search.arm, self.space.arm(self.best.drawn))

    def plain(self) -> dict[str, Any]:
        """What came of it, as plain values."""
        outcomes = [one.outcome for one in self.trials]
        reference = self.reference.values if self.reference is not None else ()
        return {
            "arm": self.search.arm,
            "trials": len(outcomes),
            "pruned": outcomes.count("pruned"),
            "failed": outcomes.count("failed"),
            "chosen": self.best.number,
            "front": [one.number for one in self.front],
            "objectives": dict(zip(self.search.objectives, self.best.values, strict=True)),
            "reference": dict(zip(self.search.objectives, reference, strict=False)),
            "seeds": self.search.seeds,
        }

    def csv(self) -> str:
        """``search.csv``: a line a proposal, and one for the reference."""
        conditions = [f"{one} held out" for one in self.objectives.conditions]
        names = ["trial", "outcome", "chosen", "front", *self.space.names, *self.search.objectives]
        whole = [*self.trials, *([self.reference] if self.reference is not None else [])]
        return to_csv([self._line(one) for one in whole], [*names, *conditions, "steps", "why"])

    def _line(self, one: Trial) -> list[Any]:
        shown = self.space.shown(one.drawn)
        return [
            "" if one.number is None else one.number,
            one.outcome,
            int(one is self.best),
            int(any(one is other for other in self.front)),
            *(shown.get(name, "") for name in self.space.names),
            *(one.values or [math.nan] * len(self.search.objectives)),
            *(one.accuracy.get(name, math.nan) for name in self.objectives.conditions),
            " ".join(map(str, one.steps)),
            one.why,
        ]

    def _losses(self, one: Trial) -> tuple[float, ...]:
        return self.objectives.losses(one.values)

    # ---- one batch -----------------------------------------------------------------------------

    def _batch(self, count: int, compute: Compute, store: CellStore) -> None:
        """Ask for proposals, measure them, and tell what came of them in the order in which they came."""
        asked = [self._sampler.ask() for _ in range(count)]
        batch = [self._trial(len(self.trials) + place, drawn) for place, (drawn, _) in enumerate(asked)]
        made = [one for one in batch if one.wiring is not None]
        self._weigh(self._kept(made, compute, store), compute, store)
        for one, (_, trial) in zip(batch, asked, strict=True):
            early = one.accuracy[self.objectives.conditions[0]] if one.outcome == "pruned" else None
            self._sampler.tell(trial, one.values or None, early=early)
        self.trials += batch

    def _trial(self, number: int, drawn: Values) -> Trial:
        try:
            wiring = self.plan.arms.made(self.search.arm, self.space.arm(drawn))
        except SpecError as error:
            return Trial(number, drawn, why=error.faults[0].message)
        return Trial(number, drawn, wiring)

    def _kept(self, batch: Sequence[Trial], compute: Compute, store: CellStore) -> list[Trial]:
        """Those that are best under the first condition, which is measured of all; or all of them."""
        if self.search.prune is None:
            return list(batch)
        first = self.objectives.conditions[:1]
        compute(in_order(cell for one in batch for cell in self.objectives.measures(_wiring(one), first)))
        for one in batch:
            self._judge(one, first, store)
        going = [one for one in batch if not one.why]
        going.sort(key=lambda one: -one.accuracy[first[0]])  # which keeps the order of equal ones
        return going[: math.ceil(self.search.prune * len(going))]

    def _weigh(self, batch: Sequence[Trial], compute: Compute, store: CellStore) -> None:
        """Find their objectives."""
        compute(in_order(cell for one in batch for cell in self.objectives.cells(_wiring(one))))
        for one in batch:
            self._judge(one, self.objectives.conditions, store, whole=True)

    def _judge(self, one: Trial, conditions: Sequence[str], store: CellStore, *, whole: bool = False) -> None:
        """Its accuracy, and its objectives if the whole of it is there."""
        try:
            one.accuracy, one.steps = self.objectives.accuracy(_wiring(one), conditions, store)
            if whole:
                one.values = self.objectives.values(_wiring(one), one.accuracy, store)
        except NoWorthError as error:
            one.why = str(error)

    # ---- checks --------------------------------------------------------------------------------

    def _name_faults(self) -> Iterator[Fault]:
        if self.search.arm in (*self.study.arms, *self.study.controls):
            message = f"there is an arm '{self.search.arm}' already"
            yield Fault(message, ("search", "arm"), "Write 'search: {arm: ...}' with another name.")
        for place, seed in enumerate(self.search.seeds):
            if seed in self.study.seeds:
                message = f"{seed} is a seed of the study, too, which is to be fresh"
                yield Fault(message, ("search", "seeds", place), "Leave 'seeds' out, or take others.")

    def _image_faults(self, plan: Plan, trust: bool) -> Iterator[Fault]:
        """There are as many images that nothing learns from as are asked for."""
        cell = plan.measure(plan.arms.wirings[0], self.search.seeds[0], plan.conditions[0], "held_out")
        there = len(Worker(trust).images({**cell.content, "limit": None}))
        if self.search.limit is not None and self.search.limit > there:
            section = "tune" if self.study.train is None and self.study.tune is not None else "train"
            hint = (
                f"Write a smaller number, or hold more out: '{section}: {{validation: ...}}' is the share of "
                f"its images that nothing learns from, {cell.content['learned'][0]['validation']:g} here."
            )
            yield Fault(f"{self.search.limit} of {there} held-out images", ("search", "limit"), hint)


def _wiring(one: Trial) -> Wiring:
    assert one.wiring is not None
    return one.wiring


def _without_what_names_arms(study: Study) -> Study:
    """A study whose other sections may name what is only found."""
    bare: dict[str, Any] = {"contrasts": [], "reference": None, "lesions": None, "grid": None, "controls": {}}
    return study.model_copy(update=bare)
