"""The fastest way to compute the batches of a training on this machine, found by measuring its first one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from pcgraph.acceleration.trial import (
    COMPILING,
    LOW_PRECISION,
    TOLERANCE,
    Trial,
    keep,
    key_of,
    recall,
    variant_of,
)
from pcgraph.acceleration.ways import Measured, Variant, has_maps, is_channels_last
from pcgraph.datasets import Batch
from pcgraph.simulation.channels_last import lay_out
from pcgraph.training.batch_step import BatchStep
from pcgraph.training.threads import fitting_threads, threads

UNASKED = {"data", "epochs", "optimizer", "schedule", "augment", "validation", "checkpoint", "keep"}
"""Settings on which the time of a batch does not depend."""


@runtime_checkable
class Compilable(Protocol):
    """A task whose work can be compiled."""

    def compile(self, compiled: bool) -> None:
        """Compile the work of a batch when it is next done, or go back to what is not compiled."""
        ...

    @property
    def gave_up(self) -> bool:
        """Whether the work was to be compiled and could not be."""
        ...


class Fastest:
    """Finds the fastest way when the first batch comes, and computes all batches so.

    A way is the layout of maps in memory; on a processor, one thread or all; and whether the work is compiled
    (if the task can, and it pays off within the training). Measured are the losses and gradients of the first
    batch, which must be alike up to rounding; no weight moves meanwhile.

    Args:
        step: What computes a batch.
        batches: How many the training has.
        tell: Is told what was found.
    """

    def __init__(self, step: BatchStep, batches: int, tell: Callable[[Measured], None]) -> None:
        self._step, self._batches, self._tell = step, batches, tell
        self._network = step.task.network
        self._before = is_channels_last(self._network)
        self._way: Variant | None = None

    @contextmanager
    def __call__(self, batch: Batch, done: int) -> Iterator[None]:
        """Everything is as the fastest way wants it; ``done``: batches before this one."""
        if self._way is None and len(batch):
            found = self._find(batch, done)
            self._way = found.chosen
            self._tell(found)
        with threads((self._way and self._way.threads) or torch.get_num_threads()):
            yield

    @property
    def way(self) -> dict[str, Any] | None:
        """The way as plain values; None before the first batch."""
        return None if self._way is None else asdict(self._way)

    def go_on(self, way: Mapping[str, Any]) -> None:
        """Compute in this way, in which the training began, and measure nothing."""
        self._way = variant_of(way)
        self._take(self._way)

    def end(self) -> None:
        """Lay out the weights as they were."""
        lay_out(self._network, self._before)

    def _find(self, batch: Batch, done: int) -> Measured:
        begin, left = time.perf_counter(), self._batches - done
        can_compile = isinstance(self._step.task, Compilable)
        key = self._key(batch)

        def compiling(seconds: float) -> bool:
            return can_compile and left * seconds > 2 * COMPILING

        known = recall(key, compiling, "batch")
        if known is not None:
            self._take(known.chosen)
            return known
        low = self._step.settings.precision != "float32"
        trial = Trial(
            self._take,
            lambda way, times: self._work(way, times, batch, done),
            self._first(batch),
            LOW_PRECISION if low else TOLERANCE,
        )
        if trial.best.threads is not None:
            trial.measure(replace(trial.best, threads=_other(trial.best.threads)))
        if has_maps(self._network):
            trial.measure(replace(trial.best, channels_last=not trial.best.channels_last))
        tried = compiling(trial.best.seconds)
        if tried:
            trial.measure(replace(trial.best, compiled=True))
        if not trial.best.compiled:
            self._take(trial.best)
        keep(key, trial, tried)
        seconds = time.perf_counter() - begin
        return Measured(chosen=trial.best, variants=tuple(trial.variants), seconds=seconds, unit="batch")

    def _first(self, batch: Batch) -> Variant:
        """What is done anyway."""
        count = None
        if self._network.device.type == "cpu" and torch.get_num_threads() > 1:
            with fitting_threads(self._network)(len(batch)):
                count = torch.get_num_threads()
        return Variant(self._before, threads=count)

    def _take(self, way: Variant) -> Variant:
        lay_out(self._network, way.channels_last)
        if isinstance(self._step.task, Compilable):
            self._step.task.compile(way.compiled)
        return way

    def _work(self, way: Variant, times: int, batch: Batch, done: int) -> dict[str, Tensor]:
        with threads(way.threads or torch.get_num_threads()):
            for _ in range(times):
                found = self._step.rehearse(batch, done)
        if way.compiled and cast(Compilable, self._step.task).gave_up:
            raise RuntimeError("it is not compiled")
        if self._network.device.type == "cuda":
            torch.cuda.synchronize(self._network.device)
        return found

    def _key(self, batch: Batch) -> str:
        return key_of(
            self._network,
            task=type(self._step.task).__name__,
            settings=self._step.settings.model_dump(mode="json", exclude=UNASKED),
            images=tuple(batch.images.shape),
        )


def _other(count: int) -> int:
    """One thread instead of all, or all instead of one."""
    return torch.get_num_threads() if count == 1 else 1
