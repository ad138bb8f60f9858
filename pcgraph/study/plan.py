"""What has to be computed for a study: its wirings, seeds and conditions become cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcgraph.datasets import ImageData, data_digest, open_data, preprocess_for
from pcgraph.datasets.parts import Split
from pcgraph.errors import Fault, SpecError
from pcgraph.evaluation.conditions import CLEAN, key
from pcgraph.spec import Edge, Spec, Train, Tune, parse_spec
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.cells import Cell, in_order
from pcgraph.study.conditions import conditions_of
from pcgraph.study.file import Study

TRAINED = ("source", "target", "predictor", "mask")
"""Fields of an edge on which its training by reconstruction depends."""


@dataclass(frozen=True)
class Measure:
    """One measurement: a wiring, with a seed, under a condition.

    Attributes:
        arm: Name of the wiring.
        seed: The repetition.
        condition: ``clean:0``, ``gaussian:0.5``, ...
        part: ``test``, or ``held_out`` for the choice of a step.
        cell: What computes it.
    """

    arm: str
    seed: int
    condition: str
    part: str
    cell: Cell


class Plan:
    """The cells of a study.

    Args:
        study: The file.
        arms: Its wirings.

    Attributes:
        measures: What is measured, in the order of the file.
        cells: All work, each cell once and after what it needs.
        conditions: Their names, clean images first.

    Raises:
        SpecError: Something of the file does not fit, at its place.
        InputError: The images cannot be had.
    """

    def __init__(self, study: Study, arms: Arms) -> None:
        self.study, self.arms = study, arms
        self.conditions = list(dict.fromkeys([f"{CLEAN}:0", *(key(one) for one in conditions_of(study))]))
        spec = arms.wirings[0].spec
        self._train = (spec.train or Train()) if study.train is not None else None
        self._tune = (spec.tune or Tune()) if study.tune is not None else None
        self._data = {part: self._reference(part) for part in self._parts()}
        self._digests = {name: data_digest(self._open(name, part)) for part, name in self._data.items()}
        self._banks = self._union() if self._shared() else []
        self._trained: dict[Any, Cell] = {}
        self.measures = [
            Measure(arm.name, seed, condition, part, self._measure(arm, seed, condition, part))
            for arm in arms.wirings
            for seed in study.seeds
            for part in (("test", "held_out") if study.evaluate.step == "held_out" else ("test",))
            for condition in self.conditions
        ]
        self.cells = in_order(one.cell for one in self.measures)

    # ---- data ----------------------------------------------------------------------------------

    def _parts(self) -> list[str]:
        parts = ["test"]
        if self._train is not None or self._tune is not None or self.study.evaluate.step == "held_out":
            parts.append("train")
        return parts

    def _reference(self, part: str) -> str:
        """The data that a part means."""
        spec = self.arms.wirings[0].spec
        learned = [one.data for one in (self._train, self._tune, spec.train, spec.tune) if one and one.data]
        given = self.study.evaluate.data if part == "test" else None
        found = given or next(iter(learned), None) or self.study.evaluate.data
        if found is None:
            field = "evaluate" if part == "test" else "train"
            message = "nobody says which images" if part == "test" else "nobody says which images to train on"
            raise SpecError(
                self.study.located(Fault(message, (field, "data"), f"Write '{field}: {{data: ...}}'."))
            )
        return found

    def _open(self, reference: str, part: str) -> ImageData:
        shape = self.arms.graph.nodes[self.arms.graph.receiver].shape
        backbone = self.arms.wirings[0].spec.backbone
        split: Split = "train" if part == "train" else "test"
        return open_data(reference, split, shape=shape, preprocess=preprocess_for(backbone))

    # ---- training ------------------------------------------------------------------------------

    def _shared(self) -> bool:
        """Whether one training serves all arms.

        Raises:
            SpecError: The file asks for it, and the arms' edges do not learn apart from each other.
        """
        if self._train is None:
            return False
        given = self.study.train or {}
        asked = given.get("edges")
        if asked not in (None, "union", "own"):
            message = f"expected 'union' or 'own', got '{asked}'"
            raise SpecError(self.study.located(Fault(message, ("train", "edges"))))
        reason = self._tied(self._train)
        if asked == "union" and reason:
            hint = "Write 'edges: own': each arm is then trained by itself."
            message = f"one training cannot serve all arms: {reason}"
            raise SpecError(self.study.located(Fault(message, ("train", "edges"), hint)))
        return asked != "own" and not reason

    def _tied(self, train: Train) -> str:
        """Why edges do not learn each by itself; empty where they do."""
        edges = [edge for arm in self.arms.wirings for edge in arm.edges]
        energies = self.arms.wirings[0].spec.dynamics.rule == "energy"
        task = train.task or ("energy" if energies else "feedback")  # see learning.make_task
        if task != "feedback":
            return f"task '{task}' trains whole networks"
        if train.clip is not None:
            return "'clip' limits the gradient of all edges together"
        if any(edge.bundle is not None for edge in edges):
            return "edges of a bundle have one error"
        if any("Dropout" in str(edge.predictor) for edge in edges):
            return "dropout draws from one source for all edges"
        return ""

    def _union(self) -> list[dict[str, Edge]]:
        """All edges of all arms, in as few sets as have no two of the same name."""
        banks: list[dict[str, Edge]] = []
        for arm in self.arms.wirings:
            for edge in arm.edges:
                learned = Edge(**edge.model_dump(include=set(TRAINED)))
                name = edge_name(edge)
                if all(bank.get(name) != learned for bank in banks):
                    free = next((bank for bank in banks if name not in bank), None)
                    if free is None:
                        banks.append(free := {})
                    free[name] = learned
        return banks

    def _train_cell(self, arm: Wiring, seed: int) -> tuple[Cell, ...]:
        if self._train is None or not arm.edges:
            return ()
        if not self._banks:
            return (self._training(arm.spec, seed),)
        wanted = [Edge(**edge.model_dump(include=set(TRAINED))) for edge in arm.edges]
        found = [bank for bank in self._banks if any(bank.get(edge_name(edge)) == edge for edge in wanted)]
        return tuple(self._training(self._bank_spec(bank), seed) for bank in found)

    def _bank_spec(self, bank: Mapping[str, Edge]) -> Spec:
        data = self.arms.wirings[0].spec.dump()
        data["feedback"] = [edge.model_dump(mode="json", exclude_defaults=True) for edge in bank.values()]
        if data.get("dynamics", {}).get("rule", "predify") == "predify":
            data["dynamics"] = {"allow_negative_memory": True}  # which the training does not ask for
        return parse_spec(data, self.study.folder)

    def _training(self, spec: Spec, seed: int) -> Cell:
        data = _content(spec, "train")
        name = self._data["train"]
        return Cell("train", {"spec": data, "seed": seed, "data": name, "digest": self._digests[name]})

    def _tune_cell(self, arm: Wiring, seed: int, needs: tuple[Cell, ...]) -> tuple[Cell, ...]:
        if self._tune is None or not arm.edges:
            return needs
        name = self._data["train"]
        content = {
            "spec": _content(arm.spec, "tune"),
            "seed": seed,
            "data": name,
            "digest": self._digests[name],
        }
        return (Cell("tune", content, needs),)

    # ---- measuring -----------------------------------------------------------------------------

    def _measure(self, arm: Wiring, seed: int, condition: str, part: str) -> Cell:
        needs = self._tune_cell(arm, seed, self._train_cell(arm, seed))
        where = "train" if part == "held_out" else "test"
        evaluate, name = self.study.evaluate, self._data[where]
        settings = self._train or self._tune or Train()
        content = {
            "spec": _content(arm.spec),
            "seed": seed if needs or not arm.edges else 0,
            "cut": arm.cut,
            "condition": condition,
            "data": name,
            "digest": self._digests[name],
            "part": part,
            "steps": arm.spec.schedule.steps if evaluate.steps is None else evaluate.steps,
            "batch": evaluate.batch,
            "limit": evaluate.limit,
            "draws": evaluate.seed,
            "validation": settings.validation if part == "held_out" else None,
        }
        if part == "test" and not (needs or arm.edges):
            content["seed"] = 0  # nothing in it differs from seed to seed
        return Cell("measure", content, needs)


def edge_name(edge: Edge) -> str:
    """``e2->e1``."""
    return f"{'+'.join(edge.sources)}->{edge.target}"


def _content(spec: Spec, *sections: str) -> dict[str, Any]:
    """A spec as plain values, without its name and the sections that are not asked for."""
    left_out = {"extends", "train", "tune"} - set(sections)
    data = {name: value for name, value in spec.dump().items() if name not in left_out}
    return {**data, "name": "cell"}
