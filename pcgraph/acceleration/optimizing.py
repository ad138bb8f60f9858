"""The fastest way to run a network on this machine, found by measuring."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pcgraph.acceleration.choose import choose_convolutions, chosen_tiles, has_large_kernels, use_tiles
from pcgraph.acceleration.trial import COMPILING, LOW_PRECISION, TOLERANCE, Trial, keep, key_of, recall
from pcgraph.acceleration.ways import Measured, Variant, has_maps, is_channels_last
from pcgraph.errors import InputError
from pcgraph.files.cache import user_cache
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.channels_last import lay_out
from pcgraph.simulation.start import given_values

LARGE = 5
"""Kernels from here on may gain from tiles; smaller ones are computed well by the library."""


@dataclass(frozen=True, kw_only=True)
class Optimized(Measured):
    """What `PCNetwork.optimize` found; as text a line.

    Attributes:
        scheduler: Runs the network in the fastest way. It is for batches of the size that was measured;
            compiled steps would be compiled anew for another one.
    """

    scheduler: Scheduler


def optimize(
    network: PCNetwork,
    inputs: Tensor | None = None,
    *,
    steps: int | None = None,
    memory: float = 2e9,
    clamp: Mapping[str, Tensor] | None = None,
    mask: Mapping[str, Tensor] | None = None,
    free: Collection[str] = (),
    record: Iterable[str] = (),
) -> Optimized:
    """See `PCNetwork.optimize`."""
    if steps is not None and steps < 0:
        raise InputError(f"steps={steps}; expected 0 or more")
    begin, given, held = time.perf_counter(), given_values(network, inputs, clamp or {}), dict(mask or {})
    key = key_of(
        network,
        given={name: (tuple(value.shape), str(value.dtype)) for name, value in given.items()},
        held=(sorted(held), sorted(free), sorted(record)),
        memory=memory,
    )

    def compiling(seconds: float) -> bool:
        return steps * seconds > 2 * COMPILING if steps is not None else user_cache() is not None

    def take(way: Variant) -> Scheduler:
        lay_out(network, way.channels_last)
        use_tiles(network, way.tiles)
        return Scheduler(network).compile() if way.compiled else Scheduler(network)

    known = recall(key, compiling)
    if known is not None:
        return Optimized(**{**vars(known), "scheduler": take(known.chosen)})
    how = {"clamp": given, "mask": held, "free": free, "record": list(record)}
    tolerance = LOW_PRECISION if torch.is_autocast_enabled(network.device.type) else TOLERANCE
    first = Variant(is_channels_last(network))
    trial = Trial(take, lambda scheduler, steps: _run(scheduler, steps, how), first, tolerance)
    _measure(trial, network, len(next(iter(given.values()))), memory)
    tried = compiling(trial.best.seconds)
    if tried:
        trial.measure(Variant(channels_last=True, tiles=trial.best.tiles, compiled=True))
    take(replace(trial.best, compiled=False))
    keep(key, trial, tried)
    return Optimized(
        chosen=trial.best,
        variants=tuple(trial.variants),
        seconds=time.perf_counter() - begin,
        scheduler=trial.taken,
    )


def _measure(trial: Trial[Scheduler], network: PCNetwork, batch: int, memory: float) -> None:
    """Tiles and the other layout."""
    large = has_large_kernels(network, LARGE)
    if large and (tiles := chosen_tiles(choose_convolutions(network, batch, memory=memory))):
        trial.measure(replace(trial.best, tiles=tiles))
    if has_maps(network):
        trial.measure(replace(trial.best, channels_last=not trial.best.channels_last))


def _run(scheduler: Scheduler, steps: int, how: Mapping[str, Any]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    run = scheduler.run(None, steps, generator=generator, diverging=True, **how)
    if scheduler.gave_up:
        raise RuntimeError("it is not compiled")
    if scheduler.network.device.type == "cuda":
        torch.cuda.synchronize(scheduler.network.device)
    return dict(run.state.values)
