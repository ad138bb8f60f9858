"""What has to be computed for a study: its wirings, seeds and conditions become cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.evaluation.conditions import CLEAN, from_key, key
from pcgraph.files.seals import digest
from pcgraph.spec import Tune
from pcgraph.study.arms import Arms, Wiring
from pcgraph.study.cells import Cell, in_order
from pcgraph.study.conditions import conditions_of, unseen_of
from pcgraph.study.controls import Controls
from pcgraph.study.file import Looks, Stability, Study
from pcgraph.study.images import StudyImages
from pcgraph.study.layouts import Layout, usual
from pcgraph.study.trainings import Trainings, content_of, learning


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
        kind: ``stability``, ``similarity`` or ``energy``.
        arm: Name of the wiring.
        seed: The repetition.
        condition: What the images go through.
        cell: What computes it.
    """

    kind: str
    arm: str
    seed: int
    condition: str
    cell: Cell


class Plan:
    """The cells of a study.

    Args:
        study: The file.
        arms: Its wirings.
        trained: Those whose edges are trained together. Left out: all arms.
        layout: How the maps of a cell's network lie in memory.

    Attributes:
        measures: What is measured, in the order of the file.
        analyses: What else is found out, in the same order.
        cells: All work, each cell once and after what it needs.
        conditions: Their names, clean images first, those that nothing is tuned for last.
        unseen: The names of the latter.
        controls: What learns instead of feedback, and how long everything learns.

    Raises:
        SpecError: Something of the file does not fit, at its place.
        InputError: The images cannot be had.
    """

    def __init__(
        self,
        study: Study,
        arms: Arms,
        trained: Sequence[Wiring] | None = None,
        layout: Layout = usual,
    ) -> None:
        self.study, self.arms = study, arms
        self._together = arms.wirings if trained is None else trained
        spec = arms.wirings[0].spec
        tuned = None if study.tune is None else (spec.tune or Tune()).noise
        self.unseen = list(dict.fromkeys(key(one) for one in unseen_of(study, tuned)))
        seen = [key(one) for one in conditions_of(study, self._size())]
        self.conditions = list(dict.fromkeys([f"{CLEAN}:0", *seen, *self.unseen]))
        self._learning = learning(study, spec)
        self._images = StudyImages(study, arms)
        self._check_steps()
        self._check_analyses()
        self.controls = Controls(study, arms, self._images, self.steps)
        self._layout = layout
        self._trainings = Trainings(study, self._together, self._images, self.controls, layout)
        self.measures = [
            Measure(arm.name, seed, condition, part, self.measure(arm, seed, condition, part))
            for arm in arms.wirings
            for seed in study.seeds
            for part in (("test", "held_out") if study.evaluate.step == "held_out" else ("test",))
            for condition in self.conditions
            if part == "test" or condition not in self.unseen
        ]
        self.analyses = [
            Analysis(kind, arm.name, seed, condition, self.analysis(arm, seed, kind, settings, condition))
            for kind, settings in {"stability": Stability(), **study.analyses.asked}.items()
            for arm in arms.wirings
            if kind in study.analyses.asked or arm.name == self._found
            for seed in study.seeds
            for condition in (self.conditions if isinstance(settings, Looks) else self.conditions[:1])
        ]
        self.cells = in_order([*(one.cell for one in self.measures), *(one.cell for one in self.analyses)])

    @property
    def robust(self) -> list[str]:
        """The conditions whose mean arms are compared by: noise that is not unseen; else clean images."""
        known = [name for name in self.conditions if name not in self.unseen]
        return [name for name in known if from_key(name)[0] != CLEAN] or known

    @property
    def _found(self) -> str | None:
        """The arm that a search found: whether it settles is always told."""
        return None if self.study.search is None else self.study.search.arm

    def _size(self) -> tuple[int, ...]:
        return self.arms.graph.nodes[self.arms.graph.receiver].shape[-2:]

    def _check_steps(self) -> None:
        """The step that arms are compared at is there in all of them, and images are held out for its choice.

        Raises:
            SpecError: It is not, or none are.
        """
        evaluate = self.study.evaluate
        steps = min(self.steps(arm) for arm in self._together)
        if isinstance(evaluate.step, int) and evaluate.step > steps:
            message = f"step {evaluate.step} of {steps}"
            raise self._refused(message, ("evaluate", "step"), "Write a smaller 'step', or more 'steps'.")
        if evaluate.right == "agreement":
            self._check_first_steps()
        message = "'validation: 0' holds no images out of the training"
        if all(one.validation for one in self._learning):
            return
        if evaluate.step == "held_out":
            raise self._refused(f"'held_out', and {message}", ("evaluate", "step"))
        if self.study.search is not None:
            raise self._refused(f"a search, and {message}", ("search",))

    def _check_analyses(self) -> None:
        """There are as many images as the file asks for, and what compares them.

        Raises:
            SpecError: There are fewer, or it is not installed.
        """
        there = self._images.count("test")
        for kind, settings in self.study.analyses.asked.items():
            if "images" in settings.model_fields_set and settings.images > there:
                message = f"{settings.images} of {there} images"
                raise self._refused(message, ("analyses", kind, "images"), "Write a smaller number.")
        asked = self.study.analyses.similarity
        if asked is not None and asked.rdm is not None and find_spec("rsatoolbox") is None:
            message, path = "this needs rsatoolbox, which is not installed", ("analyses", "similarity", "rdm")
            raise self._refused(message, path, "pip install 'pcgraph[similarity]'")

    def _check_first_steps(self) -> None:
        """Every arm begins as the plain network, whose answers are what it is measured by.

        Raises:
            SpecError: One begins otherwise.
        """
        hint = "Write 'right: class'."
        if self.study.controls:
            message = "'agreement', and controls are other plain networks than those of the arms"
            raise self._refused(message, ("evaluate", "right"), hint)
        for arm in self._together:
            if arm.spec.schedule.initial != "feedforward":
                message = f"'agreement', and the first states of '{arm.name}' are not the plain network's"
                raise self._refused(message, ("evaluate", "right"), hint)

    def alike(self) -> list[list[str]]:
        """Wirings that are one network and learn alike, however they are written."""
        found: dict[str, list[str]] = {}
        for arm in self.arms.wirings:
            if arm.control is None:
                written = [edge.model_copy(update={"delay": edge.delay or 1}) for edge in arm.edges]
                edges = sorted((edge.model_dump(mode="json") for edge in written), key=str)
                spec = content_of(arm.spec.model_copy(update={"feedback": []}), "train", "tune")
                found.setdefault(digest([spec, edges, arm.cut]), []).append(arm.name)
        return [names for names in found.values() if len(names) > 1]

    def steps(self, arm: Wiring) -> int:
        """How many steps of an arm are evaluated."""
        asked = self.study.evaluate.steps
        return arm.spec.schedule.steps if asked is None else asked

    def _refused(self, message: str, path: FieldPath, hint: str = "") -> SpecError:
        return SpecError(self.study.located(Fault(message, path, hint)))

    # ---- cells ---------------------------------------------------------------------------------

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
            "steps": self.steps(arm),
            "batch": evaluate.batch,
            "limit": evaluate.limit if limit is None else limit,
            **({"right": evaluate.right} if evaluate.right != "class" else {}),
            **({"distances": True} if evaluate.distances and part == "test" else {}),
            **self._measured(part),
        }
        content.update(self._layout("measure", content))
        return Cell("measure", content, *self._trainings.made(arm, seed))

    def analysis(
        self,
        arm: Wiring,
        seed: int,
        kind: str,
        settings: Stability | Looks,
        condition: str = f"{CLEAN}:0",
        part: str = "test",
    ) -> Cell:
        """The cell that finds something else out about a wiring, on test images or held-out ones."""
        own: dict[str, Any] = {} if part == "test" else {"part": part}
        if isinstance(settings, Looks):
            own.update(condition=condition, steps=self.steps(arm))
        content = {
            **self._network(arm, seed, part),
            **settings.model_dump(exclude_none=True),
            **own,
            **self._measured(part),
        }
        return Cell(kind, content, *self._trainings.made(arm, seed))

    def _measured(self, part: str) -> dict[str, Any]:
        """What a cell's content says of the images that it looks at."""
        if part == "test":
            return self._images.of("test")
        learned = [
            {**self._images.of("tune" if isinstance(one, Tune) else "train"), "validation": one.validation}
            for one in self._learning
        ]
        return {"learned": learned}

    def _network(self, arm: Wiring, seed: int, part: str) -> dict[str, Any]:
        """What a cell's content says of the network that it looks at, and of the draws."""
        alike = part == "test" and not arm.edges and arm.control is None
        return {
            **({} if arm.control is None else {"size": self.controls.content(arm)["size"]}),
            "spec": content_of(arm.spec),
            "seed": 0 if alike else seed,  # 0: nothing in it differs from seed to seed
            "cut": arm.cut,
            "draws": self.study.evaluate.seed,
            **self._images.beside(arm.spec),
        }
