"""The loop of an evaluation: every image through every condition, at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcgraph.datasets import ImageData, batches, subset
from pcgraph.datasets.noise import mixed_seed
from pcgraph.errors import DivergenceError, Fault, InputError
from pcgraph.evaluation.attacks import Attack
from pcgraph.evaluation.conditions import Clean, Condition, NoNoise, distinct, key
from pcgraph.evaluation.measures import Drawn, Followed, follow, judge
from pcgraph.evaluation.processes import Processes
from pcgraph.evaluation.store import ANSWER, Measured, Store
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes:
        steps: Steps to make.
        batch: Images at a time. Batches are the same however many processes share them.
        seed: Of all noise.
        distances: Whether to measure how far the states are from those of the clean image.
    """

    steps: int
    batch: int = 64
    seed: int = 0
    distances: bool = False


def evaluate(
    network: PCNetwork,
    data: ImageData,
    conditions: Sequence[Condition],
    settings: Settings,
    *,
    store: Store | None = None,
    processes: Processes | None = None,
    workers: int = 0,
    memory: str | None = None,
    of_whole: Callable[[Tensor], Scheduler] | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Measure a network on images, clean and otherwise, at every step of its dynamics.

    Each process takes whole batches in turn, so that the results do not depend on their number, to the
    last bit.

    Args:
        network: The network.
        data: The images.
        conditions: What they go through; the clean images are always evaluated too.
        settings: How to evaluate.
        store: Where results are kept as they come in; what it holds already is not computed again.
        processes: Those that share the work.
        workers: Processes that read images ahead; see `pcgraph.datasets.batches`.
        memory: What a run of the dynamics may take; larger batches run in parts. See `Scheduler.run`.
        of_whole: Gives the scheduler of whole batches, such as one that compiles; a last one that is
            smaller has the usual one.
        advance: Is told of every batch that went through a condition.

    Returns:
        By condition and quantity, (steps + 1, images); see `judge`, and ``success`` of an attack, uint8.
        Empty in all processes but the first.

    Raises:
        InputError: The data, the network or a condition do not fit.
    """
    store = store or Store()
    processes = processes or Processes()
    conditions = distinct(conditions)
    names = [key(condition) for condition in conditions]
    plain = Scheduler(network)
    own = _own_batches(len(data), settings.batch, processes)
    todo = [(number, places) for number, places in own if store.missing(names, places)]
    advance((len(own) - len(todo)) * len(conditions))
    places = [place for _, several in todo for place in several]
    loaded = batches(subset(data, places), settings.batch, seed=settings.seed, workers=workers)
    for (number, whole), batch in zip(todo, loaded, strict=True):
        indices = torch.tensor(places)[batch.indices]
        part = f"{number:07d}"
        store.skip(part, sorted(set(whole).difference(indices.tolist())))
        if not len(batch):
            continue
        seed = mixed_seed(settings.seed, number)
        scheduler = plain
        if of_whole is not None and len(batch) == settings.batch:
            scheduler = of_whole(batch.images)
        given = (settings.steps, settings.distances, seed, memory, Drawn(settings.seed, indices))
        run = follow(scheduler, batch.images, *given)
        check_classes(data, batch.labels, run)
        clean = Clean(
            batch.images, batch.labels, indices, run.answers, scheduler, data.preprocess, settings.seed
        )
        for condition, name in zip(conditions, names, strict=True):
            if store.missing([name], indices.tolist()):
                seen = run
                if not isinstance(condition, NoNoise):
                    inputs = _inputs(condition, clean)
                    seen = follow(scheduler, inputs, *given)
                measured = judge(seen, run, batch.labels)
                if isinstance(condition, NoNoise):
                    measured[ANSWER] = run.answers.int()
                if isinstance(condition, Attack):
                    aims = _aims(condition, clean)
                    measured["success"] = condition.hits(seen.answers, aims, seen.logits.shape[-1]).byte()
                store.add(part, name, indices, measured)
            advance(1)
    processes.wait()
    if not processes.first:
        return {}
    if processes.count > 1:
        store.read()
    return store.collect(len(data), names)


def _inputs(condition: Condition, clean: Clean) -> Tensor:
    """What a condition makes of a batch; NaN for an image that cannot be attacked because states diverge."""
    try:
        if isinstance(condition, Attack) and bool((_aims(condition, clean) < 0).any()):
            raise DivergenceError(clean.scheduler.network.graph.receiver, condition.step)
        return condition.inputs(clean)
    except DivergenceError:
        if len(clean.images) == 1:
            return torch.full_like(clean.images, torch.nan)
        return torch.cat([_inputs(condition, clean.part(place)) for place in range(len(clean.images))])


def _aims(attack: Attack, clean: Clean) -> Tensor:
    """The classes that an attack leads away from: the labels, or the answers to the clean images."""
    return torch.where(clean.labels < 0, clean.answers[attack.step], clean.labels)


def work(images: int, conditions: Sequence[Condition], batch: int, processes: Processes) -> int:
    """What ``advance`` is told by `evaluate` in this process, all told."""
    return len(_own_batches(images, batch, processes)) * len(distinct(conditions))


def _own_batches(images: int, size: int, processes: Processes) -> list[tuple[int, list[int]]]:
    """This process's batches: their numbers and the images' places."""
    numbers = range(processes.index, -(-images // size), processes.count)
    return [(number, list(range(number * size, min((number + 1) * size, images)))) for number in numbers]


def check_classes(data: ImageData, labels: Tensor, run: Followed) -> None:
    """Labels mean nothing if the data have other classes than the network.

    Raises:
        InputError: They have.
    """
    classes = run.logits.shape[-1]
    if data.labelled and data.classes is not None and len(data.classes) != classes:
        raise InputError(
            Fault(
                f"the data have {len(data.classes)} classes, the network answers with {classes}",
                hint="They must be those that the network was trained on, all of them, in this order; "
                "'--classes' (or 'classes' of the spec's backbone) says which.",
                where=data.name,
            )
        )
    if int(labels.max()) >= classes:
        raise InputError(
            f"{data.name}: a label is {int(labels.max())}, the network answers with {classes} classes"
        )
