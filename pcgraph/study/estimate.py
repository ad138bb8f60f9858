"""How long a study takes, guessed from a few batches of each kind of work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from pcgraph.datasets import Batch, ImageData, batch_count, batches, subset
from pcgraph.evaluation.measures import follow
from pcgraph.scheduler import Scheduler
from pcgraph.study.cells import Cell, in_order
from pcgraph.study.plan import Plan
from pcgraph.study.trials import Trials
from pcgraph.study.work import Learning, Worker
from pcgraph.training import Task
from pcgraph.training.gradients import clear, differentiate
from pcgraph.training.threads import threads

REPEATS = 4
"""Updates that are timed, after one that is not: the number of steps of a tuning is drawn for each."""
FEW = 10
"""Steps of a long run that are timed."""


@dataclass(frozen=True)
class Estimate:
    """A guess.

    Attributes:
        arm: What was timed, besides the controls: of the arms with feedback the middle one by their edges.
        seconds: By kind of cell, for all that are to be done, one after the other, on a quiet machine.
    """

    arm: str
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.seconds.values())


def estimate(plan: Plan, done: Iterable[str] = (), search: Trials | None = None) -> Estimate:
    """Time a few updates or steps of one cell of each kind, and multiply.

    Networks are untrained for it. What is made once for several cells (networks, images) is not counted, and
    a stability is counted with all its steps, though most arms settle before.

    Args:
        plan: The study.
        done: The names of cells that are there already.
        search: The search, whose proposals are taken to be all measured, and to have all edges.
    """
    finished = set(done)
    fed = sorted((one for one in plan.arms.wirings if one.edges), key=lambda one: len(one.edges))
    arm = (fed or plan.arms.wirings)[len(fed) // 2].name
    controls = {
        one.cell.needs[0].key: f"control {one.arm}"
        for one in plan.measures
        if one.arm in plan.controls.budgets
    }
    own = [one.cell for one in plan.measures if one.arm == arm]
    own += [one.cell for one in plan.analyses if one.arm == arm]

    def sort(cell: Cell) -> str:
        """Those that take as long as each other, in the arm that is timed."""
        return controls.get(cell.key, f"{cell.kind} {cell.content.get('part', '')}")

    examples = {sort(cell): cell for cell in (*plan.cells, *in_order(own))}  # the last of a sort counts
    counts = Counter(sort(cell) for cell in plan.cells if cell.key not in finished)
    found: dict[str, float] = {}
    worker = Worker(plan.arms.trust)
    with threads(1), torch.random.fork_rng():
        for what, count in counts.items():
            kind = examples[what].kind
            found[kind] = found.get(kind, 0.0) + count * _seconds(worker, examples[what])
        if search is not None:
            found["search"] = _of_search(worker, search)
    return Estimate(arm, found)


def _of_search(worker: Worker, search: Trials) -> float:
    """Of one training, and of all that each proposal takes besides."""
    cells = in_order(search.objectives.cells(search.space.probes[0]))
    seconds = dict.fromkeys(("train", "others"), 0.0)
    for cell in cells:
        seconds["train" if cell.kind == "train" else "others"] += _seconds(worker, cell)
    return seconds["train"] + search.search.trials * seconds["others"]


def _seconds(worker: Worker, cell: Cell) -> float:
    if cell.kind in ("train", "tune", "control"):
        return _of_learning(worker.learning(cell.kind, cell.content, ()))
    scheduler = Scheduler(worker.measured(cell.content, ()))
    data = worker.images(cell.content)
    if cell.kind == "stability":
        images = _first(data, cell.content["images"]).images
        steps: int = cell.content["steps"]
        return steps / FEW * _timed(lambda _: follow(scheduler, images, FEW, False, 0), 1)
    if cell.kind in ("similarity", "energy"):
        images = _first(data, cell.content["images"]).images
        return _timed(lambda _: follow(scheduler, images, cell.content["steps"], False, 0), 1)
    images = _first(data, cell.content["batch"]).images
    count = batch_count(range(cell.content["limit"] or len(data)), cell.content["batch"])
    return count * _timed(lambda _: follow(scheduler, images, cell.content["steps"], False, 0), 1)


def _of_learning(one: Learning) -> float:
    """Of all updates, and of what is measured after every epoch."""
    size, images = one.settings.batch, len(one.data)
    updates = batch_count(one.data, size, drop_last=images > size)
    batch = _first(one.data, size)
    update = _timed(lambda seed: _update(one.task, replace(batch, seed=seed)), REPEATS)
    measured = _timed(lambda _: one.task.measure(batch), 1) if len(one.held) else 0.0
    return one.settings.epochs * (updates * update + batch_count(one.held, size) * measured)


def _update(task: Task, batch: Batch) -> None:
    for losses in task.moments(batch):
        moving = task.parameters()
        differentiate(losses, moving)
        clear(moving)


def _first(data: ImageData, count: int) -> Batch:
    return next(batches(subset(data, range(min(count, len(data)))), count))


def _timed(work: Callable[[int], object], repeats: int) -> float:
    """Seconds of this process for one call, after one that is not counted."""
    work(0)
    begun = time.process_time()
    for number in range(repeats):
        work(number)
    return (time.process_time() - begun) / repeats
