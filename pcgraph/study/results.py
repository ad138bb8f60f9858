"""What the cells of a study say: right answers by arm, seed, condition, step and image."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load

from pcgraph.evaluation.conditions import from_key
from pcgraph.evaluation.measures import NO_ANSWER
from pcgraph.study.plan import Analysis, Measure, Plan
from pcgraph.study.store import CellStore
from pcgraph.study.work import FAILED, MEASURED, Files

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One line of ``study.csv``: one arm, seed, condition and step.

    Attributes:
        arm: The wiring.
        of: The arm of the file that it was made from.
        cut: The error term that was taken out; empty if none was.
        seed: The repetition.
        part: ``test`` or ``held_out``.
        noise: The condition.
        level: Its strength.
        step: Steps of the dynamics.
        images: How many.
        right: How many were answered rightly; see `Evaluate.right`.
        accuracy: Their share; NaN where nothing could be measured.
        failed: What went wrong before the measurement; empty if nothing did.
    """

    arm: str
    of: str
    cut: str
    seed: int
    part: str
    noise: str
    level: float
    step: int
    images: int
    right: int
    accuracy: float
    failed: str


class Results:
    """The results of a study whose cells are all there.

    Args:
        plan: The study.
        store: Where its cells are.
    """

    def __init__(self, plan: Plan, store: CellStore) -> None:
        self.plan, self.store = plan, store
        self._right: dict[str, Right] = {}
        self._failed: dict[str, str] = {}
        for key in dict.fromkeys(one.cell.key for one in plan.measures):
            files = store.read(key)
            if FAILED in files:
                self._failed[key] = failure(files)
            else:
                self._right[key] = right_of(files)

    @property
    def reference(self) -> str:
        """The arm that the others are compared with."""
        return self.plan.study.reference or self.plan.arms.wirings[0].name

    def analyses(self, kind: str) -> list[Analysis]:
        """Those of one kind; none, where the study does not ask for it."""
        return [one for one in self.plan.analyses if one.kind == kind]

    def rows(self) -> Iterator[Row]:
        """Every number, in the order of the file."""
        wirings = {one.name: one for one in self.plan.arms.wirings}
        for one in self.plan.measures:
            arm = wirings[one.arm]
            noise, level = from_key(one.condition)
            about = (one.arm, arm.of, arm.cut or "", one.seed, one.part, noise, level)
            if one.cell.key in self._failed:
                yield Row(*about, 0, 0, 0, math.nan, self._failed[one.cell.key])
                continue
            right = self._right[one.cell.key]
            for step, answers in enumerate(right):
                count = int(answers.sum())
                yield Row(*about, step, len(answers), count, count / len(answers), "")

    def failures(self, arm: str) -> int:
        """With how many seeds an arm could not be trained or tuned."""
        failed = {one.seed for one in self._of(arm, "test") if one.cell.key in self._failed}
        return len(failed)

    def steps(self, arm: str) -> list[int]:
        """The step that an arm is compared at, for each seed; see `Evaluate.step`."""
        asked = self.plan.study.evaluate.step
        part, chosen = "held_out" if asked == "held_out" else "test", []
        for seed in self.plan.study.seeds:
            keys = [one.cell.key for one in self._of(arm, part, seed)]
            chosen.append(
                step_of(asked, [self._right[key].mean(axis=1) for key in keys if key in self._right])
            )
        return chosen

    def right(self, arm: str, condition: str) -> Right | None:
        """Which images were answered rightly at the chosen step, (seeds, images); None if a seed failed."""
        found = []
        for seed, step in zip(self.plan.study.seeds, self.steps(arm), strict=True):
            (one,) = [m for m in self._of(arm, "test", seed) if m.condition == condition]
            if one.cell.key in self._failed:
                return None
            found.append(self._right[one.cell.key][step])
        return np.stack(found)

    def over_steps(self, arm: str, condition: str) -> NDArray[np.float64] | None:
        """Accuracy at each step, over seeds and images, (steps + 1,); None if a seed failed."""
        found = [one.cell.key for one in self._of(arm, "test") if one.condition == condition]
        if any(key in self._failed for key in found):
            return None
        mean: NDArray[np.float64] = np.mean([self._right[key].mean(axis=1) for key in found], axis=0)
        return mean

    def _of(self, arm: str, part: str, seed: int | None = None) -> list[Measure]:
        return [
            one
            for one in self.plan.measures
            if one.arm == arm and one.part == part and seed in (None, one.seed)
        ]


def failure(files: Files) -> str:
    """What went wrong in a cell that failed, in one line."""
    found = json.loads(files[FAILED])
    return f"{found['during']}: {found['message']}".splitlines()[0]


def right_of(files: Files) -> Right:
    """Which images a cell found answered rightly, (steps + 1, images)."""
    tensors = load(files[MEASURED])
    answers = tensors["answers"].long()
    right: Right = ((answers == tensors["labels"]) & (answers != NO_ANSWER)).numpy()
    return right


def step_of(asked: str | int, accuracy: Sequence[NDArray[np.float64]]) -> int:
    """The step that `Evaluate.step` asks for; 0 where nothing could be measured.

    Args:
        asked: ``last``, ``held_out`` or a number.
        accuracy: Over the steps, (steps + 1,), under each condition; with ``held_out``, on the images that
            choose.
    """
    if not accuracy:
        return 0
    if asked == "held_out":
        return int(np.mean(accuracy, axis=0).argmax())
    last = len(accuracy[0]) - 1
    return last if asked == "last" else min(int(asked), last)


def to_csv(rows: Sequence[Any], names: Sequence[str]) -> str:
    """Lines of equal fields as CSV, numbers in the shortest form that reads back as the same."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def study_csv(results: Results) -> str:
    """``study.csv``: see `Row`."""
    return to_csv([astuple(row) for row in results.rows()], [one.name for one in fields(Row)])


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return value


def means(results: Results, arm: str) -> Mapping[str, float]:
    """Accuracy by condition, over seeds and images; NaN where a seed failed."""
    found = {}
    for condition in results.plan.conditions:
        right = results.right(arm, condition)
        found[condition] = math.nan if right is None else float(right.mean())
    return found
