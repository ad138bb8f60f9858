"""Ways to do the same work, timed one after the other, and what is kept of that for later."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pcgraph.acceleration.ways import Measured, Variant
from pcgraph.files.cache import user_cache
from pcgraph.files.seals import digest
from pcgraph.network import PCNetwork
from pcgraph.simulation.packages import machine

COMPILING = 60.0
"""Seconds that compiling may take; two cores took 40 to 85 for EfficientNetB0."""
ENOUGH = 0.5
"""Seconds of a measurement, so that it tells variants apart."""
BETTER = 0.97
"""A way replaces another one if it takes at most this share of its time."""
TOLERANCE, LOW_PRECISION = 1e-3, 0.05
"""How far results may be apart, relative to the largest number of each; the second under autocast."""
SMALL = 1e-3
"""Results smaller than this share of the largest one are compared as if they were so large."""

T = TypeVar("T")
Take = Callable[[Variant], T]
"""Gets ready to work in a way, and gives what works so."""
Work = Callable[[T, int], Mapping[str, Tensor]]
"""Does the work so many times, and gives its results by name; always the same, up to rounding."""


class Trial(Generic[T]):
    """Ways to do some work.

    Args:
        take: Gets ready for a way.
        work: What is timed.
        first: The way in which the work is done anyway.
        tolerance: How far results may be apart; see `alike`.
        enough: Seconds of a measurement.
        clock: What tells the seconds.

    Attributes:
        variants: All that give the same results.
        best: The fastest of them.
        taken: What `take` gave for it.
    """

    def __init__(
        self,
        take: Take[T],
        work: Work[T],
        first: Variant,
        tolerance: float = TOLERANCE,
        enough: float = ENOUGH,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._take, self._work, self._tolerance, self.times = take, work, tolerance, 1
        self._clock = clock
        self.taken = take(first)
        self._work(self.taken, 1)
        self.times = max(1, min(10, int(enough / self._seconds(self.taken))))
        self._expected = self._work(self.taken, self.times)
        self.best = replace(first, seconds=self._seconds(self.taken))
        self.variants = [self.best]

    def measure(self, way: Variant) -> None:
        """Time a way; it is the best if it is faster than that by more than measurements differ."""
        taken = self._take(way)
        try:
            found = self._work(taken, self.times)  # the first time a compiled one compiles
        except RuntimeError:  # code that asks how maps lie, and cannot have them so; what cannot be compiled
            return
        if not alike(found, self._expected, self._tolerance):
            return
        way = replace(way, seconds=self._seconds(taken))
        self.variants.append(way)
        if way.seconds < BETTER * self.best.seconds:
            self.best, self.taken = way, taken

    def _seconds(self, taken: T) -> float:
        times = []
        for _ in range(2):
            begin = self._clock()
            self._work(taken, self.times)
            times.append(self._clock() - begin)
        return min(times) / self.times


def alike(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float) -> bool:
    """Whether results are the same up to rounding: up to that share of the largest number of each."""
    sizes = {name: float(value.nan_to_num().abs().max()) for name, value in expected.items() if value.numel()}
    least = SMALL * max(sizes.values(), default=0.0)
    return all(
        torch.allclose(found[name], expected[name], rtol=0, atol=tolerance * max(size, least), equal_nan=True)
        for name, size in sizes.items()
    )


# ---- kept for later ------------------------------------------------------------------------------------


def recall(key: str, compiling: Callable[[float], bool], unit: str = "step") -> Measured | None:
    """What was measured before; None where it was not, or compiling was not tried and is worth it now.

    Args:
        key: What it was measured for.
        compiling: Whether compiling is worth it, if the fastest way without takes so many seconds.
        unit: What was timed.
    """
    begin, kept = time.perf_counter(), user_cache()
    known = None if kept is None else kept.find(key)
    if known is None:
        return None
    variants = tuple(variant_of(values) for values in known.about["variants"])
    chosen = variants[known.about["chosen"]]
    if not known.about["tried"] and compiling(chosen.seconds):
        return None
    seconds = time.perf_counter() - begin
    return Measured(chosen=chosen, variants=variants, seconds=seconds, recalled=True, unit=unit)


def keep(key: str, trial: Trial[Any], tried: bool) -> None:
    """Keep what was measured; ``tried``: whether compiling was, or need not be."""
    kept = user_cache()
    if kept is not None:
        chosen = trial.variants.index(trial.best)
        about = {"chosen": chosen, "tried": tried, "variants": [asdict(way) for way in trial.variants]}
        kept.keep(key, lambda folder: about)


def variant_of(values: Mapping[str, Any]) -> Variant:
    """A way as it was written down."""
    tiles = tuple((layer, tuple(shape), tile) for layer, shape, tile in values["tiles"])
    return Variant(**{**values, "tiles": tiles})


def key_of(network: PCNetwork, **work: Any) -> str:
    """A digest of what a choice may depend on; it is no promise that the choice is still the best.

    Args:
        network: The network; the numbers of its weights do not matter.
        work: What is done with it, as plain values.
    """
    device = network.device.type
    weights = {
        name: (tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad)
        for name, tensor in {**network.state_dict(), **dict(network.named_parameters())}.items()
    }
    return digest(
        {
            "format": 3,
            "spec": {
                name: value
                for name, value in network.spec.dump().items()
                if name not in ("name", "weights", "train", "tune")
            },
            "weights": weights,
            "autocast": torch.is_autocast_enabled(device) and str(torch.get_autocast_dtype(device)),
            "machine": (*machine(), torch.get_num_threads()),
            "device": torch.cuda.get_device_name(network.device) if device == "cuda" else device,
            **work,
        }
    )
