"""What has to be computed for a study: its wirings, seeds and conditions become cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.evaluation.conditions import CLEAN, key
from pcgraph.files.seals import digest
from pcgraph.spec import Edge, Spec, Train, Tune, parse_spec
from pcgraph.spec.source import show
from pcgraph.study.analyses import IMAGES, STEPS
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.cells import Cell, in_order, key_of
from pcgraph.study.conditions import conditions_of
from pcgraph.study.file import Study
from pcgraph.study.images import StudyImages, files_beside

TRAINED = ("source", "target", "predictor", "mask")
"""Fields of an edge on which its training by reconstruction depends."""
UNASKED = ("feedback", "schedule", "start", "tune", "weights")
"""Fields of a spec on which that training does not depend: it is of the feedforward pass."""


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


@dataclass(frozen=True)
class Analysis:
    """One analysis of a wiring, with a seed.

    Attributes:
        arm: Name of the wiring.
        seed: The repetition.
        cell: What computes it.
    """

    arm: str
    seed: int
    cell: Cell


class Plan:
    """The cells of a study.

    Args:
        study: The file.
        arms: Its wirings.
        trained: The wirings whose edges are trained together. Left out: all arms.

    Attributes:
        measures: What is measured, in the order of the file.
        analyses: What else is found out, in the same order.
        cells: All work, each cell once and after what it needs.
        conditions: Their names, clean images first.

    Raises:
        SpecError: Something of the file does not fit, at its place.
        InputError: The images cannot be had.
    """

    def __init__(self, study: Study, arms: Arms, trained: Sequence[Wiring] | None = None) -> None:
        self.study, self.arms = study, arms
        self._together = arms.wirings if trained is None else trained
        self.conditions = list(
            dict.fromkeys([f"{CLEAN}:0", *(key(one) for one in conditions_of(study, self._size()))])
        )
        spec = arms.wirings[0].spec
        self._train = (spec.train or Train()) if study.train is not None else None
        self._tune = (spec.tune or Tune()) if study.tune is not None else None
        self._images = StudyImages(study, arms)
        self._check_steps()
        self._files: dict[str, dict[str, str]] = {}
        self._banks = self._union() if self._shared() else {}
        self._trained: dict[Any, Cell] = {}
        self.measures = [
            Measure(arm.name, seed, condition, part, self.measure(arm, seed, condition, part))
            for arm in arms.wirings
            for seed in study.seeds
            for part in (("test", "held_out") if study.evaluate.step == "held_out" else ("test",))
            for condition in self.conditions
        ]
        self.analyses = [
            Analysis(arm.name, seed, self.analysis(arm, seed, name))
            for name in study.analyses
            for arm in arms.wirings
            for seed in study.seeds
        ]
        self.cells = in_order([*(one.cell for one in self.measures), *(one.cell for one in self.analyses)])

    def _size(self) -> tuple[int, ...]:
        return self.arms.graph.nodes[self.arms.graph.receiver].shape[-2:]

    def _check_steps(self) -> None:
        """The step that arms are compared at is there in all of them, and images are held out for its choice.

        Raises:
            SpecError: It is not, or none are.
        """
        evaluate = self.study.evaluate
        steps = min(self._steps(arm) for arm in self._together)
        if isinstance(evaluate.step, int) and evaluate.step > steps:
            message = f"step {evaluate.step} of {steps}"
            raise self._refused(message, ("evaluate", "step"), "Write a smaller 'step', or more 'steps'.")
        if any(one.validation == 0 for one in self._learning()):
            message = "'validation: 0' holds no images out of the training"
            if evaluate.step == "held_out":
                raise self._refused(f"'held_out', and {message}", ("evaluate", "step"))
            if self.study.search is not None:
                raise self._refused(f"a search, and {message}", ("search",))

    def _steps(self, arm: Wiring) -> int:
        asked = self.study.evaluate.steps
        return arm.spec.schedule.steps if asked is None else asked

    def _learning(self) -> list[Train | Tune]:
        """What learns from images; where nothing does, the split of a training that might."""
        return [one for one in (self._train, self._tune) if one is not None] or [Train()]

    def _refused(self, message: str, path: FieldPath, hint: str = "") -> SpecError:
        return SpecError(self.study.located(Fault(message, path, hint)))

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
            raise self._refused(f"expected 'union' or 'own', got {show(asked)}", ("train", "edges"))
        settings = [arm.spec.train or Train() for arm in self._together]
        reason = next(filter(None, map(self._tied, settings)), "")
        if asked == "union" and reason:
            hint = "Write 'edges: own': each arm is then trained by itself."
            raise self._refused(f"one training cannot serve all arms: {reason}", ("train", "edges"), hint)
        return asked != "own" and not reason

    def _tied(self, train: Train) -> str:
        """Why edges do not learn each by itself; empty where they do."""
        edges = [edge for arm in self._together for edge in arm.edges]
        energies = self.arms.wirings[0].spec.dynamics.rule == "energy"
        task = train.task or ("energy" if energies else "feedback")  # see learning.make_task
        if task != "feedback" and "backbone" in (train.learns or ["backbone"]):
            message = f"task '{task}' would train the backbone, which is the same in all arms"
            raise self._refused(message, ("train", "task"), "Write 'learns: [predictors]'.")
        if task != "feedback":
            return f"task '{task}' trains whole networks"
        if train.clip is not None:
            return "'clip' limits the gradient of all edges together"
        if any(edge.bundle is not None for edge in edges):
            return "edges of a bundle have one error"
        if any("Dropout" in str(edge.predictor) for edge in edges):
            return "dropout draws from one source for all edges"
        return ""

    def _union(self) -> dict[str, list[dict[str, Edge]]]:
        """All edges of all arms by ground, in sets that have no two of one name; an arm in one."""
        found: dict[str, list[dict[str, Edge]]] = {}
        for arm in self._together:
            banks, edges = found.setdefault(_ground(arm.spec), []), _bank(arm)
            fitting = (
                one for one in banks if all(one.get(name, edge) == edge for name, edge in edges.items())
            )
            bank = next(fitting, None)
            if bank is None:
                banks.append(bank := {})
            bank.update(edges)
        return found

    def _train_cell(self, arm: Wiring, seed: int) -> tuple[Cell, ...]:
        if self._train is None or not arm.edges:
            return ()
        if not self._banks:
            return (self._training(arm.spec, seed),)
        banks, edges = self._banks.get(_ground(arm.spec), []), _bank(arm)
        fitting = (one for one in banks if all(one.get(name) == edge for name, edge in edges.items()))
        bank = next(fitting, edges)
        return (self._training(self._bank_spec(arm.spec, bank), seed),)

    def _known(self, arm: Wiring, seed: int) -> tuple[str, ...]:
        """The training of each edge of an arm, whatever other edges were trained with it."""
        if not self._banks:
            return ()
        shared = {
            "ground": _ground(arm.spec),
            "seed": seed,
            **self._images.of("train"),
            **self._beside(arm.spec),
        }
        edges = [_learned(edge).model_dump(mode="json") for edge in arm.edges]
        return tuple(key_of("train", {**shared, "edge": edge}, []) for edge in edges)

    def _bank_spec(self, spec: Spec, bank: Mapping[str, Edge]) -> Spec:
        data = spec.dump()
        for name in UNASKED:
            data.pop(name, None)
        data["feedback"] = [edge.model_dump(mode="json", exclude_defaults=True) for edge in bank.values()]
        if spec.dynamics.rule == "predify":
            data["dynamics"] = {"allow_negative_memory": True}  # which the training does not ask for
        return parse_spec(data, self.study.folder)

    def _training(self, spec: Spec, seed: int) -> Cell:
        content = {"spec": _content(spec, "train"), "seed": seed, **self._images.of("train")}
        return Cell("train", {**content, **self._beside(spec)})

    def _tune_cell(self, arm: Wiring, seed: int, needs: tuple[Cell, ...]) -> tuple[Cell, ...]:
        if self._tune is None or not arm.edges:
            return needs
        content = {"spec": _content(arm.spec, "tune"), "seed": seed, **self._images.of("tune")}
        return (Cell("tune", {**content, **self._beside(arm.spec)}, needs, self._known(arm, seed)),)

    def _beside(self, spec: Spec) -> dict[str, Any]:
        """Digests of the files that a spec names without one; see `files_beside`."""
        key = digest(spec.dump())
        if key not in self._files:
            self._files[key] = files_beside(spec)
        return {"files": self._files[key]} if self._files[key] else {}

    # ---- measuring -----------------------------------------------------------------------------

    def measure(self, arm: Wiring, seed: int, condition: str, part: str, limit: int | None = None) -> Cell:
        """The cell that measures a wiring.

        Args:
            arm: The wiring.
            seed: The repetition.
            condition: ``clean:0``, ``gaussian:0.5``, ...
            part: ``test`` or ``held_out``.
            limit: So many images. Left out: `Evaluate.limit`.
        """
        evaluate = self.study.evaluate
        content: dict[str, Any] = {
            **self._network(arm, seed, part),
            "condition": condition,
            "part": part,
            "steps": self._steps(arm),
            "batch": evaluate.batch,
            "limit": evaluate.limit if limit is None else limit,
        }
        return Cell("measure", {**content, **self._measured(part)}, *self._made(arm, seed))

    def analysis(self, arm: Wiring, seed: int, kind: str, part: str = "test") -> Cell:
        """The cell that finds something else out about a wiring, on test images or held-out ones."""
        content = {**self._network(arm, seed, part), "images": IMAGES, "steps": STEPS, **self._measured(part)}
        if part != "test":
            content["part"] = part
        return Cell(kind, content, *self._made(arm, seed))

    def _measured(self, part: str) -> dict[str, Any]:
        """What a cell's content says of the images that it looks at."""
        if part == "test":
            return self._images.of("test")
        learned = [
            {**self._images.of("tune" if isinstance(one, Tune) else "train"), "validation": one.validation}
            for one in self._learning()
        ]
        return {"learned": learned}

    def _network(self, arm: Wiring, seed: int, part: str = "test") -> dict[str, Any]:
        """What a cell's content says of the network that it looks at, and of the draws."""
        alike = part == "test" and not arm.edges
        return {
            "spec": _content(arm.spec),
            "seed": 0 if alike else seed,  # 0: nothing in it differs from seed to seed
            "cut": arm.cut,
            "draws": self.study.evaluate.seed,
            **self._beside(arm.spec),
        }

    def _made(self, arm: Wiring, seed: int) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
        """The cells that made this network, and what they are to those that look at it."""
        needs = self._tune_cell(arm, seed, self._train_cell(arm, seed))
        return needs, self._known(arm, seed) if self._tune is None else ()


def edge_name(edge: Edge) -> str:
    """``e2->e1``."""
    return f"{'+'.join(edge.sources)}->{edge.target}"


def _bank(arm: Wiring) -> dict[str, Edge]:
    """What the edges of an arm learn, by their names."""
    return {edge_name(edge): _learned(edge) for edge in arm.edges}


def _learned(edge: Edge) -> Edge:
    """An edge with what its training depends on, and nothing else."""
    return Edge(**edge.model_dump(include=set(TRAINED)))


def _ground(spec: Spec) -> str:
    """All that the training of an edge depends on besides the edge, as a digest."""
    unasked = {*UNASKED, *(["dynamics"] if spec.dynamics.rule == "predify" else [])}
    return digest({name: value for name, value in _content(spec, "train").items() if name not in unasked})


def _content(spec: Spec, *sections: str) -> dict[str, Any]:
    """A spec as plain values, without its name and the sections that are not asked for."""
    left_out = {"extends", "train", "tune"} - set(sections)
    data = {name: value for name, value in spec.dump().items() if name not in left_out}
    return {**data, "name": "cell"}
