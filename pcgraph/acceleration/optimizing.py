"""The fastest way to run a network on this machine, found by measuring."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pcgraph.acceleration.choose import Tiles, choose_convolutions, chosen_tiles, has_large_kernels, use_tiles
from pcgraph.errors import InputError
from pcgraph.files.cache import user_cache
from pcgraph.files.seals import digest
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.packages import machine

COMPILING = 60.0
"""Seconds that compiling may take; two cores took 40 to 85 for EfficientNetB0."""
ENOUGH = 0.5
"""Seconds of a measurement, so that it tells variants apart."""
BETTER = 0.97
"""A way replaces another one if it takes at most this share of its time."""
TOLERANCE, LOW_PRECISION = 1e-3, 0.05
"""How far states may be apart, relative to a node's largest number; the second under autocast."""
LARGE = 5
"""Kernels from here on may gain from tiles; smaller ones are computed well by the library."""


@dataclass(frozen=True)
class Variant:
    """A way to run a network.

    Attributes:
        channels_last: How the weights, and with them the states, lie in memory.
        tiles: The large kernels that are computed in tiles; see `choose_convolutions`.
        compiled: Whether the steps are compiled.
        seconds: A step, with its share of the first pass.
    """

    channels_last: bool = False
    tiles: Tiles = ()
    compiled: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = ["tiles"] if self.tiles else []
        parts += ["compiled"] if self.compiled else ["channels-last"] if self.channels_last else []
        return f"{', '.join(parts) or 'as it is'} {self.seconds * 1e3:.3g} ms"


@dataclass(frozen=True)
class Optimized:
    """What `PCNetwork.optimize` found; as text a line.

    Attributes:
        scheduler: Runs the network in the fastest way. It is for batches of the size that was measured;
            compiled steps would be compiled anew for another one.
        chosen: That way.
        variants: All that were measured; the first is the network as it was.
        seconds: What that took.
        recalled: Whether an earlier process had measured.
    """

    scheduler: Scheduler
    chosen: Variant
    variants: tuple[Variant, ...]
    seconds: float
    recalled: bool = False

    def __str__(self) -> str:
        measured = f"{self.chosen} a step; measured: {'; '.join(map(str, self.variants))}"
        if self.recalled:
            return f"{measured}, by an earlier process"
        saved = self.variants[0].seconds - self.chosen.seconds
        paid = f", paid off after {self.seconds / saved:.0f} steps" if saved > 0 else ""
        return f"{measured}, in {self.seconds:.1f} s{paid}"


def optimize(
    network: PCNetwork, inputs: Tensor, *, steps: int | None = None, memory: float = 2e9
) -> Optimized:
    """See `PCNetwork.optimize`."""
    if steps is not None and steps < 0:
        raise InputError(f"steps={steps}; expected 0 or more")
    begin, kept = time.perf_counter(), user_cache()
    tried, untried = (_key(network, inputs, memory, compiling) for compiling in (True, False))
    known = None if kept is None else kept.find(tried) or kept.find(untried)
    if known is not None:
        variants = tuple(_variant(values) for values in known.about["variants"])
        chosen = variants[known.about["chosen"]]
        _lay_out(network, chosen)
        scheduler = _scheduler(network, chosen)
        return Optimized(scheduler, chosen, variants, time.perf_counter() - begin, recalled=True)
    trial = Trial(network, inputs)
    trial.eager(memory)
    worth = steps * trial.best.seconds > 2 * COMPILING if steps is not None else kept is not None
    if worth:
        trial.measure(Variant(channels_last=True, tiles=trial.best.tiles, compiled=True))
    _lay_out(network, trial.best)
    if kept is not None:
        chosen_place = trial.variants.index(trial.best)
        about = {"chosen": chosen_place, "variants": [asdict(way) for way in trial.variants]}
        kept.keep(tried if worth else untried, lambda folder: about)
    return Optimized(trial.scheduler, trial.best, tuple(trial.variants), time.perf_counter() - begin)


class Trial:
    """Variants to run a network, measured one after the other.

    Args:
        network: As it is, it is the first way.
        inputs: What it is run on.

    Attributes:
        variants: All that make the same states.
        best: The fastest of them.
        scheduler: Runs the network in that way.
    """

    def __init__(self, network: PCNetwork, inputs: Tensor) -> None:
        self.network, self.inputs, self.steps = network, inputs, 1
        self.scheduler = Scheduler(network)
        self._run(self.scheduler)
        self.steps = max(1, min(10, int(ENOUGH / self._seconds(self.scheduler))))
        self._expected = self._run(self.scheduler)
        self.best = Variant(_is_channels_last(network), seconds=self._seconds(self.scheduler))
        self.variants = [self.best]

    def eager(self, memory: float) -> None:
        """Measure tiles and the other layout."""
        if has_large_kernels(self.network, LARGE):
            choices = choose_convolutions(self.network, len(self.inputs), memory=memory)
            if tiles := chosen_tiles(choices):
                self.measure(replace(self.best, tiles=tiles))
        self.measure(replace(self.best, channels_last=not self.best.channels_last))

    def measure(self, way: Variant) -> None:
        """Time a way; it is the best if it is faster than that by more than measurements differ."""
        _lay_out(self.network, way)
        scheduler = _scheduler(self.network, way)
        states = self._run(scheduler)  # the first run of a compiled one compiles
        if not all(_alike(states[name], value) for name, value in self._expected.items()):
            return
        way = replace(way, seconds=self._seconds(scheduler))
        self.variants.append(way)
        if way.seconds < BETTER * self.best.seconds:
            self.best, self.scheduler = way, scheduler

    def _seconds(self, scheduler: Scheduler) -> float:
        times = []
        for _ in range(2):
            begin = time.perf_counter()
            self._run(scheduler)
            times.append(time.perf_counter() - begin)
        return min(times) / self.steps

    def _run(self, scheduler: Scheduler) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        run = scheduler.run(self.inputs, self.steps, record=[], generator=generator, diverging=True)
        if self.network.device.type == "cuda":
            torch.cuda.synchronize(self.network.device)
        return dict(run.state.values)


def _lay_out(network: PCNetwork, way: Variant) -> None:
    network.to(memory_format=torch.channels_last if way.channels_last else torch.contiguous_format)
    use_tiles(network, way.tiles)


def _scheduler(network: PCNetwork, way: Variant) -> Scheduler:
    return Scheduler(network).compile() if way.compiled else Scheduler(network)


def _is_channels_last(network: PCNetwork) -> bool:
    maps = [weight for weight in network.parameters() if weight.dim() == 4 and not weight.is_contiguous()]
    return any(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)


def _alike(found: Tensor, expected: Tensor) -> bool:
    tolerance = LOW_PRECISION if torch.is_autocast_enabled(found.device.type) else TOLERANCE
    size = float(expected.nan_to_num().abs().max())
    return torch.allclose(found, expected, rtol=0, atol=tolerance * size, equal_nan=True)


def _variant(values: Mapping[str, Any]) -> Variant:
    """A way as it was written down."""
    tiles = tuple((layer, tuple(shape), tile) for layer, shape, tile in values["tiles"])
    return Variant(**{**values, "tiles": tiles})


def _key(network: PCNetwork, inputs: Tensor, memory: float, compiling: bool) -> str:
    """A digest of what the choice may depend on; it is no promise that the choice is still the best."""
    device = network.device.type
    weights = {
        name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in network.state_dict().items()
    }
    return digest(
        {
            "optimize": 3,
            "spec": {
                name: value
                for name, value in network.spec.dump().items()
                if name not in ("name", "weights", "train", "tune")
            },
            "weights": weights,
            "constant": [weight.requires_grad for weight in network.predictors.parameters()],
            "inputs": (tuple(inputs.shape), str(inputs.dtype)),
            "autocast": torch.is_autocast_enabled(device) and str(torch.get_autocast_dtype(device)),
            "machine": (*machine(), torch.get_num_threads()),
            "device": torch.cuda.get_device_name(network.device) if device == "cuda" else device,
            "memory": memory,
            "compiling": compiling,
        }
    )
