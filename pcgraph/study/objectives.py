"""What counts in a search: the cells that tell what a proposal is worth, and what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from pcgraph.analysis.cost import step_cost
from pcgraph.building.network import build
from pcgraph.errors import Fault, closest
from pcgraph.study.arms import Wiring
from pcgraph.study.cells import Cell
from pcgraph.study.file import Stability
from pcgraph.study.gathering import refuse_all
from pcgraph.study.plan import Plan
from pcgraph.study.results import failure, right_of, step_of
from pcgraph.study.search import ACCURACY, LESS, Search
from pcgraph.study.store import CellStore
from pcgraph.study.work import FAILED, STABILITY, Files


class NoWorthError(Exception):
    """Why it cannot be told what a proposal is worth."""


class Objectives:
    """The objectives of a search, on images that are held out of the training.

    Args:
        search: The section of the file.
        plan: The study without what is searched for.

    Attributes:
        conditions: The conditions that count, in the order of the file.

    Raises:
        SpecError: There is no such objective, the first is no accuracy, or nothing can be pruned by.
    """

    def __init__(self, search: Search, plan: Plan) -> None:
        self.search, self.plan = search, plan
        faults = list(self._name_faults())
        counting = {*search.objectives, *(plan.robust if ACCURACY in search.objectives else ())}
        self.conditions = [name for name in plan.conditions if name in counting]
        if search.prune is not None and len(self.conditions) == 1:
            message = f"nothing to leave out: '{self.conditions[0]}' is the only condition that counts"
            faults.append(Fault(message, ("search", "prune"), "Leave 'prune' out."))
        refuse_all(plan.study, faults)

    def measures(self, wiring: Wiring, conditions: Sequence[str]) -> list[Cell]:
        """The cells that measure a wiring under some conditions, seed by seed."""
        return [
            self.plan.measure(wiring, seed, name, "held_out", self.search.limit)
            for seed in self.search.seeds
            for name in conditions
        ]

    def cells(self, wiring: Wiring) -> list[Cell]:
        """All cells that its worth takes."""
        return [*self.measures(wiring, self.conditions), *self._stabilities(wiring)]

    def accuracy(
        self, wiring: Wiring, conditions: Sequence[str], store: CellStore
    ) -> tuple[dict[str, float], tuple[int, ...]]:
        """Its accuracy by condition, over seeds and images, at the step that each seed is judged at.

        Raises:
            NoWorthError: It could not be trained, tuned or measured.
        """
        files = [_whole(store.read(cell.key)) for cell in self.measures(wiring, conditions)]
        over_steps = [right_of(one).mean(axis=1) for one in files]
        width, asked = len(conditions), self.plan.study.evaluate.step
        by_seed = [over_steps[at : at + width] for at in range(0, len(over_steps), width)]
        steps = tuple(step_of(asked, own) for own in by_seed)
        found = [[one[step] for one in own] for own, step in zip(by_seed, steps, strict=True)]
        return dict(zip(conditions, np.mean(found, axis=0).tolist(), strict=True)), steps

    def values(self, wiring: Wiring, accuracy: dict[str, float], store: CellStore) -> tuple[float, ...]:
        """The objectives, in the order of the file.

        Raises:
            NoWorthError: One of them cannot be told.
        """

        def value(name: str) -> float:
            if name == "spectral_radius":
                return max(map(_radius, (store.read(cell.key) for cell in self._stabilities(wiring))))
            if name == "multiply_adds":
                return self._cost(wiring)
            over = self.plan.robust if name == ACCURACY else [name]
            return float(np.mean([accuracy[one] for one in over]))

        return tuple(value(name) for name in self.search.objectives)

    def losses(self, values: Sequence[float]) -> tuple[float, ...]:
        """Objectives so that less is better."""
        signs = [1 if name in LESS else -1 for name in self.search.objectives]
        return tuple(sign * value for sign, value in zip(signs, values, strict=True))

    def _stabilities(self, wiring: Wiring) -> list[Cell]:
        if "spectral_radius" not in self.search.objectives:
            return []
        how = self.plan.study.analyses.stability or Stability()
        return [
            self.plan.analysis(wiring, seed, "stability", how, part="held_out") for seed in self.search.seeds
        ]

    def _cost(self, wiring: Wiring) -> float:
        cost = step_cost(build(wiring.spec, trust=self.plan.arms.trust, weights=False, verify=False))
        if cost is None:
            raise NoWorthError("its multiply-adds cannot be told")
        return cost

    def _name_faults(self) -> Iterator[Fault]:
        seen = [name for name in self.plan.conditions if name not in self.plan.unseen]
        known = [ACCURACY, *LESS, *seen]
        for place, name in enumerate(self.search.objectives):
            if name in self.plan.unseen:
                message = f"'{name}' is unseen: nothing is chosen by it"
                yield Fault(message, ("search", "objectives", place), "Name a condition of 'noise'.")
            elif name not in known:
                hint = closest(name, known)
                yield Fault(f"unknown objective '{name}'", ("search", "objectives", place), hint)
        if self.search.objectives[0] in LESS:
            message = "the first objective decides which wiring becomes an arm, and is an accuracy"
            yield Fault(message, ("search", "objectives", 0), f"For example '{ACCURACY}'.")


def _whole(files: Files) -> Files:
    if FAILED in files:
        raise NoWorthError(failure(files))
    return files


def _radius(files: Files) -> float:
    found = json.loads(_whole(files)[STABILITY])
    radius: float | None = found["spectral_radius"]
    if radius is None:
        raise NoWorthError(f"no spectral radius: {found['unknown'] or 'it does not settle'}")
    return radius
