"""How the maps of a study's networks lie in memory: as they do, or channels-last where that is faster here.

It changes sums by rounding, so a cell that is computed channels-last says so in its content, and is another
cell than the one that is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcgraph.acceleration.trial import Trial, keep, recall
from pcgraph.acceleration.ways import Measured, Variant
from pcgraph.datasets import Batch, ImageData, batches, subset
from pcgraph.errors import Fault, InputError
from pcgraph.files.seals import digest
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.channels_last import lay_out
from pcgraph.simulation.packages import machine
from pcgraph.study.cells import CHANNELS_LAST
from pcgraph.study.work import Worker
from pcgraph.training.gradients import clear, differentiate
from pcgraph.training.threads import threads

WHAT = ("spec", "size", "learning", "batch")
"""What a layout is chosen for: fields of a cell's content. Seeds, conditions and lesions share one."""
STEPS = 2
"""Of a run that is timed."""
REMOVE = "Remove it: layouts are then measured again."
ENOUGH = 0.1
"""Seconds of a measurement: there are many of them, one for each wiring and kind of work."""

Layout = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""From the kind and the content of a cell to what the content says of the layout, too."""


def usual(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The layout of cells that say nothing of it: maps lie as torch makes them."""
    return {}


class Layouts:
    """The faster layout for each wiring and kind of work, measured once.

    Args:
        file: Where a study's choices are kept, so that it goes on with them wherever it does.
        trust: Whether ``python:`` references may be imported.

    Raises:
        InputError: The file is damaged.
    """

    def __init__(self, file: Path, trust: bool = False) -> None:
        self.chosen: dict[str, bool] = _read(file)
        self.measured: list[Measured] = []
        self.seconds = 0.0
        self._worker = Worker(trust)

    def __call__(self, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """What a cell's content says of its layout: nothing, if it is the usual one."""
        if kind == "measure" and "size" in content:  # a control: before it has learned there is no network
            return {}
        what = {"kind": kind, **{name: content[name] for name in WHAT if name in content}}
        key = digest(what)
        if key not in self.chosen:
            begin = time.perf_counter()
            found = self._find(digest({"layout": 2, "what": what, "machine": machine()}), kind, content)
            self.measured.append(found)
            self.seconds += time.perf_counter() - begin
            self.chosen[key] = found.chosen.channels_last
        return dict(CHANNELS_LAST) if self.chosen[key] else {}

    def __str__(self) -> str:
        shares = [one.chosen.seconds / one.variants[0].seconds for one in self.measured]
        faster = [share for share, one in zip(shares, self.measured, strict=True) if one.chosen.channels_last]
        count = sum(self.chosen.values())
        range_of = f" ({min(faster):.2f} to {max(faster):.2f} of the time)" if faster else ""
        said = f"channels-last for {count} of {len(self.chosen)} kinds of cells{range_of}"
        recalled = sum(one.recalled for one in self.measured) + len(self.chosen) - len(self.measured)
        known = f", {recalled} of them known from before" if recalled else ""
        return f"{said}, as it is for the others; measured in {self.seconds:.0f} s{known}"

    def text(self) -> str:
        """The choices, for the file."""
        return json.dumps(self.chosen, indent=1, sort_keys=True) + "\n"

    def _find(self, key: str, kind: str, content: Mapping[str, Any]) -> Measured:
        known = recall(key, lambda seconds: False)
        if known is not None:
            return known
        with threads(1), torch.random.fork_rng():
            trial = (_of_runs if kind == "measure" else _of_learning)(self._worker, kind, content)
            trial.measure(Variant(channels_last=True))
        keep(key, trial, tried=True)
        return Measured(chosen=trial.best, variants=tuple(trial.variants), seconds=0.0)


def _read(file: Path) -> dict[str, bool]:
    """What was chosen before."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(Fault(f"cannot be read: {error}", hint=REMOVE, where=str(file))) from None
    if not isinstance(found, dict) or not all(isinstance(value, bool) for value in found.values()):
        raise InputError(Fault("holds no layouts", hint=REMOVE, where=str(file)))
    return found


def _of_learning(worker: Worker, kind: str, content: Mapping[str, Any]) -> Trial[Variant]:
    """The gradient of one batch, by an untrained network."""
    one = worker.learning(kind, content, ())
    batch = _first(one.data, one.settings.batch)

    def work(way: Variant, times: int) -> dict[str, Tensor]:
        for _ in range(times):
            torch.manual_seed(0)
            for losses in one.task.moments(batch):
                moving = one.task.parameters()
                differentiate(losses, moving)
                found = {str(at): weight.grad for at, weight in enumerate(moving) if weight.grad is not None}
                clear(moving)
        return found

    return _trial(one.task.network, work)


def _of_runs(worker: Worker, kind: str, content: Mapping[str, Any]) -> Trial[Variant]:
    """A few steps, by an untrained network."""
    network = worker.measured({**content, "cut": None}, ())
    images, scheduler = _first(worker.images(content), content["batch"]).images, Scheduler(network)

    def work(way: Variant, times: int) -> dict[str, Tensor]:
        for _ in range(times):
            found = scheduler.run(images, STEPS, record=["output"], diverging=True).state.values
        return dict(found)

    return _trial(network, work)


def _trial(network: PCNetwork, work: Callable[[Variant, int], dict[str, Tensor]]) -> Trial[Variant]:
    def take(way: Variant) -> Variant:
        lay_out(network, way.channels_last)
        return way

    return Trial(take, work, Variant(), enough=ENOUGH, clock=time.process_time)  # one thread, as cells have


def _first(data: ImageData, count: int) -> Batch:
    return next(batches(subset(data, range(min(count, len(data)))), count))
