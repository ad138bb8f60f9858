"""A search: proposals are made, measured on images held out of the training, and the best becomes an arm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load

from pcgraph.analysis.cost import step_cost
from pcgraph.building.network import build
from pcgraph.errors import Fault, FieldPath, InputError, SpecError, closest
from pcgraph.evaluation.conditions import CLEAN, from_key
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.cells import Cell, in_order
from pcgraph.study.file import Study
from pcgraph.study.plan import Plan
from pcgraph.study.results import to_csv
from pcgraph.study.samplers import LESS, Sampler
from pcgraph.study.space import Space, Values
from pcgraph.study.store import CellStore
from pcgraph.study.work import FAILED, MEASURED, STABILITY, Worker

ACCURACY = "accuracy"
Compute = Callable[[Sequence[Cell]], None]
"""Computes cells, and keeps what they leave."""


@dataclass
class Trial:
    """One proposal, and what came of it.

    Attributes:
        number: Its place in the search.
        drawn: What was drawn, by name.
        wiring: What it is; None where it is no spec.
        accuracy: By condition, over seeds and held-out images, at the step that it is judged at.
        steps: That step, by seed.
        values: Its objectives; empty if it was pruned or failed.
        why: What went wrong; empty if nothing did.
    """

    number: int
    drawn: Values
    wiring: Wiring | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    why: str = ""

    @property
    def outcome(self) -> str:
        """``complete``, ``pruned`` or ``failed``."""
        return "complete" if self.values else "failed" if self.why else "pruned"


class Trials:
    """The search of a study.

    Args:
        study: The file; it has a section ``search``.
        trust: Whether ``python:`` references may be imported.

    Attributes:
        stand_in: The study with an arm of all edges, in place of what will be found.

    Raises:
        SpecError: Something of the section does not fit, at its place.
        InputError: Optuna is not installed, or no image is held out.
    """

    def __init__(self, study: Study, *, trust: bool = False) -> None:
        assert study.search is not None
        self.study, self.search, self.trust = study, study.search, trust
        bare: dict[str, Any] = {
            "contrasts": [],
            "reference": None,
            "lesions": None,
            "grid": None,
            "analyses": [],
        }
        arms = Arms(study.model_copy(update=bare), trust=trust)
        self._check_names()
        self.space = Space(self.search, arms)
        self.plan = Plan(arms.study, arms, self.space.probes)
        self._check_objectives()
        self._check_images()
        self._sampler = Sampler(study, self.space.draw)
        self.stand_in = study.with_arm(self.search.arm, self.space.stand_in())
        self.trials: list[Trial] = []

    def run(self, compute: Compute, store: CellStore, advance: Callable[[int], None]) -> None:
        """Make all proposals, a batch at a time, and measure them.

        Raises:
            PCGraphError: A cell cannot be computed; what was done is kept.
            InputError: No proposal could be measured.
        """
        while len(self.trials) < self.search.trials and not self._sampler.exhausted:
            count = min(self.search.batch, self.search.trials - len(self.trials))
            asked = [self._sampler.ask() for _ in range(count)]
            batch = [self._trial(len(self.trials) + place, drawn) for place, (drawn, _) in enumerate(asked)]
            self._measure(batch, compute, store)
            for one, (_, trial) in zip(batch, asked, strict=True):
                early = one.accuracy[self._conditions[0]] if one.outcome == "pruned" else None
                self._sampler.tell(trial, one.values or None, early=early)
            self.trials += batch
            advance(count)
        if not any(one.values for one in self.trials):
            message = (
                f"none of {len(self.trials)} proposals could be measured; the first: {self.trials[0].why}"
            )
            raise InputError(self.study.located(Fault(message, ("search",))))

    @property
    def best(self) -> Trial:
        """The best in the first objective; of equal ones in the next; and then the first."""
        return min((one for one in self.trials if one.values), key=lambda one: self._losses(one.values))

    @property
    def found(self) -> Study:
        """The study with the best proposal as an arm."""
        return self.study.with_arm(self.search.arm, self.space.arm(self.best.drawn))

    def plain(self) -> dict[str, Any]:
        """What came of it, as plain values."""
        outcomes = [one.outcome for one in self.trials]
        return {
            "arm": self.search.arm,
            "trials": len(outcomes),
            "pruned": outcomes.count("pruned"),
            "failed": outcomes.count("failed"),
            "chosen": self.best.number,
            "objectives": dict(zip(self.search.objectives, self.best.values, strict=True)),
            "seeds": self.search.seeds,
        }

    def csv(self) -> str:
        """``search.csv``: a line a proposal."""
        conditions = [f"{one} held out" for one in self._conditions]
        names = ["trial", "outcome", "chosen", "front", *self.space.names, *self.search.objectives]
        return to_csv([self._line(one) for one in self.trials], [*names, *conditions, "steps", "why"])

    def _line(self, one: Trial) -> list[Any]:
        shown = self.space.shown(one.drawn)
        return [
            one.number,
            one.outcome,
            int(one is self.best),
            int(self._on_front(one)),
            *(shown.get(name, "") for name in self.space.names),
            *(one.values or [math.nan] * len(self.search.objectives)),
            *(one.accuracy.get(name, math.nan) for name in self._conditions),
            " ".join(map(str, one.steps)),
            one.why,
        ]

    def _on_front(self, one: Trial) -> bool:
        """Whether no other proposal is at least as good in every objective and better in one."""
        if not one.values:
            return False
        own = self._losses(one.values)
        others = [self._losses(other.values) for other in self.trials if other.values]
        return not any(two != own and all(a <= b for a, b in zip(two, own, strict=True)) for two in others)

    def _losses(self, values: Sequence[float]) -> tuple[float, ...]:
        """Objectives so that less is better."""
        signs = [1 if name in LESS else -1 for name in self.search.objectives]
        return tuple(sign * value for sign, value in zip(signs, values, strict=True))

    # ---- one batch -----------------------------------------------------------------------------

    def _trial(self, number: int, drawn: Values) -> Trial:
        try:
            wiring = self.plan.arms.made(self.search.arm, self.space.arm(drawn))
        except SpecError as error:
            return Trial(number, drawn, why=error.faults[0].message)
        return Trial(number, drawn, wiring)

    def _measure(self, batch: Sequence[Trial], compute: Compute, store: CellStore) -> None:
        """Measure a batch, first under the first condition; and all of it, or those that are best there."""
        going = [one for one in batch if one.wiring is not None]
        if self.search.prune is not None:
            first = self._conditions[:1]
            compute(in_order(cell for one in going for cell in self._cells(one, first).values()))
            for one in going:
                self._judge(one, first, store)
            going = [one for one in going if not one.why]
            going.sort(key=lambda one: (-one.accuracy[first[0]], one.number))
            del going[math.ceil(self.search.prune * len(going)) :]
        cells = [cell for one in going for cell in self._cells(one, self._conditions).values()]
        stable = {one.number: self._stabilities(one) for one in going}
        compute(in_order([*cells, *(cell for one in going for cell in stable[one.number])]))
        for one in going:
            self._judge(one, self._conditions, store)
            if not one.why:
                self._weigh(one, stable[one.number], store)

    def _cells(self, one: Trial, conditions: Sequence[str]) -> dict[tuple[int, str], Cell]:
        assert one.wiring is not None
        return {
            (seed, name): self.plan.measure(one.wiring, seed, name, "held_out", self.search.limit)
            for seed in self.search.seeds
            for name in conditions
        }

    def _stabilities(self, one: Trial) -> list[Cell]:
        if "spectral_radius" not in self.search.objectives:
            return []
        assert one.wiring is not None
        return [self.plan.analysis(one.wiring, seed, "stability", "held_out") for seed in self.search.seeds]

    def _judge(self, one: Trial, conditions: Sequence[str], store: CellStore) -> None:
        """Its accuracy under some conditions, at the step that the study asks for."""
        right: dict[tuple[int, str], NDArray[np.float64]] = {}
        for key, cell in self._cells(one, conditions).items():
            files = store.read(cell.key)
            if FAILED in files:
                one.why = _first_line(files)
                return
            tensors = load(files[MEASURED])
            right[key] = (tensors["answers"].long() == tensors["labels"]).double().mean(dim=1).numpy()
        one.steps = tuple(
            self._step([right[seed, name] for name in conditions]) for seed in self.search.seeds
        )
        at = dict(zip(self.search.seeds, one.steps, strict=True))
        one.accuracy = {
            name: float(np.mean([right[seed, name][at[seed]] for seed in self.search.seeds]))
            for name in conditions
        }

    def _step(self, accuracy: Sequence[NDArray[np.float64]]) -> int:
        """The step that a seed is judged at; see `Evaluate.step`."""
        asked, last = self.study.evaluate.step, len(accuracy[0]) - 1
        if asked == "held_out":
            return int(np.mean(accuracy, axis=0).argmax())
        return last if asked == "last" else min(int(asked), last)

    def _weigh(self, one: Trial, stable: Sequence[Cell], store: CellStore) -> None:
        """Its objectives."""
        assert one.wiring is not None
        found: list[float] = []
        for name in self.search.objectives:
            if name == "spectral_radius":
                found.append(self._radius(one, [store.read(cell.key) for cell in stable]))
            elif name == "multiply_adds":
                cost = step_cost(build(one.wiring.spec, trust=self.trust, weights=False))
                one.why = one.why or ("" if cost is not None else "its multiply-adds cannot be told")
                found.append(math.nan if cost is None else cost)
            else:
                found.append(one.accuracy[name] if name != ACCURACY else self._mean(one.accuracy))
        one.values = () if one.why else tuple(found)

    def _radius(self, one: Trial, stable: Sequence[Mapping[str, bytes]]) -> float:
        """The largest spectral radius over the seeds."""
        found: list[float] = []
        for files in stable:
            values = {} if FAILED in files else json.loads(files[STABILITY])
            radius = values.get("spectral_radius")
            if radius is None:
                why = values.get("unknown") or ("it does not settle" if values else _first_line(files))
                one.why = one.why or f"no spectral radius: {why}"
            else:
                found.append(radius)
        return max(found, default=math.nan)

    def _mean(self, accuracy: Mapping[str, float]) -> float:
        return float(np.mean([accuracy[name] for name in self._robust()]))

    # ---- checks --------------------------------------------------------------------------------

    @property
    def _conditions(self) -> list[str]:
        """The conditions that count, in the order of the file."""
        asked = set(self.search.objectives)
        robust = self._robust() if ACCURACY in asked else []
        return [name for name in self.plan.conditions if name in asked or name in robust]

    def _robust(self) -> list[str]:
        noisy = [name for name in self.plan.conditions if from_key(name)[0] != CLEAN]
        return noisy or self.plan.conditions

    def _check_names(self) -> None:
        if self.search.arm in self.study.arms:
            message = f"there is an arm '{self.search.arm}' already"
            raise self._refused(message, ("search", "arm"), "Write 'search: {arm: ...}' with another name.")
        for place, seed in enumerate(self.search.seeds):
            if seed in self.study.seeds:
                message = f"{seed} is a seed of the study, too, which is to be fresh"
                raise self._refused(message, ("search", "seeds", place), "Leave 'seeds' out, or take others.")

    def _check_objectives(self) -> None:
        known = [ACCURACY, *LESS, *self.plan.conditions]
        for place, name in enumerate(self.search.objectives):
            if name not in known:
                hint = closest(name, known)
                raise self._refused(f"unknown objective '{name}'", ("search", "objectives", place), hint)
        if self.search.objectives[0] in LESS:
            message = "the first objective decides which wiring becomes an arm, and is an accuracy"
            raise self._refused(message, ("search", "objectives", 0), f"For example '{ACCURACY}'.")
        if self.search.prune is not None and len(self._conditions) == 1:
            message = f"nothing to leave out: '{self._conditions[0]}' is the only condition that counts"
            raise self._refused(message, ("search", "prune"), "Leave 'prune' out.")

    def _check_images(self) -> None:
        wiring = self.space.probes[0]
        cell = self.plan.measure(wiring, self.search.seeds[0], self._conditions[0], "held_out")
        there = len(Worker(self.trust).held_out(wiring.spec, cell.content))
        if self.search.limit is not None and self.search.limit > there:
            raise self._refused(f"{self.search.limit} of {there} held-out images", ("search", "limit"))

    def _refused(self, message: str, path: FieldPath, hint: str = "") -> SpecError:
        return SpecError(self.study.located(Fault(message, path, hint)))


def _first_line(files: Mapping[str, bytes]) -> str:
    found = json.loads(files[FAILED])
    return f"{found['during']}: {found['message']}".splitlines()[0]
