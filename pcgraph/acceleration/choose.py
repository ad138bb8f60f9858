"""For each transposed convolution of the predictors, the way to compute it that was fastest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pcgraph.acceleration.measure import Shape, Way, measured_ways
from pcgraph.display.interruptions import uninterrupted
from pcgraph.errors import Fault, InputError
from pcgraph.network import PCNetwork
from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d
from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d

Tiles = tuple[tuple[str, Shape, int], ...]
"""Layers with the shape of their input and the side of the tiles."""


@dataclass(frozen=True)
class Choice:
    """What was measured for one layer, and what was chosen.

    Attributes:
        layer: Its name among the predictors, such as ``e2->e1.0``.
        shape: Shape of its input.
        ways: The first is direct.
        chosen: One of them.
    """

    layer: str
    shape: Shape
    ways: tuple[Way, ...]
    chosen: Way


@dataclass(frozen=True)
class Choices:
    """What `choose_convolutions` chose; as text a table.

    Attributes:
        layers: One a layer and shape.
        seconds: How long choosing took, the weights' transforms included.
    """

    layers: tuple[Choice, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        """What the transformed weights take."""
        return sum(choice.chosen.bytes for choice in self.layers)

    @property
    def saved(self) -> float:
        """Seconds that a step needs less, if it makes each prediction and its product once."""
        return sum(choice.ways[0].seconds - choice.chosen.seconds for choice in self.layers)

    def __str__(self) -> str:
        lines = [
            f"{choice.layer} of {choice.shape}: {choice.chosen}; measured: {'; '.join(map(str, choice.ways))}"
            for choice in self.layers
        ]
        paid = f", paid off after {self.seconds / self.saved:.0f} steps" if self.saved > 0 else ""
        total = f"transformed weights {self.bytes / 1e6:.0f} MB; chosen in {self.seconds:.1f} s{paid}"
        return "\n".join([*lines, total])


def choose_convolutions(
    network: PCNetwork, batch: int, *, memory: float = 2e9, tolerance: float = 1e-4
) -> Choices:
    """Measure how each transposed convolution of the predictors is best computed, and compute it so.

    Results then differ from the direct ones by rounding. The choices hold for this batch size, and replace
    earlier ones and those of runs; other sizes, and weights that require a gradient again, are computed
    directly. Call it in the autocast context, if any, and with the number of threads that the runs will have.

    Args:
        network: Its predictors' layers are replaced by ones with the same parameters.
        batch: Batch size of the runs.
        memory: What the transformed weights may take, in bytes; 0 goes back to direct computation, in runs,
            too, and whether weights require a gradient or not.
        tolerance: Largest error of a layer, relative to its largest value.

    Raises:
        InputError: The batch size is not positive, or weights require a gradient.
    """
    if batch < 1:
        raise InputError(f"batch={batch}; expected 1 or more")
    begin = time.perf_counter()
    layers = dict(_replaced(network.predictors))
    for name, layer in layers.items():
        if layer.weight.requires_grad and memory > 0:
            raise InputError(
                Fault(
                    f"the weight of '{name}' requires a gradient; only constant weights are transformed",
                    hint="Call network.requires_grad_(False) before.",
                )
            )
        layer.choose({})
    measured = []
    for name, shape in _shapes(network, layers, batch):
        ways = measured_ways(layers[name], shape, memory)
        accurate = [way for way in ways if way.error <= tolerance]
        measured.append(Choice(name, shape, ways, min(accurate, key=lambda way: way.seconds)))
    chosen = _within(measured, memory)
    for name, layer in layers.items():
        layer.choose({c.shape: c.chosen.tile for c in chosen if c.layer == name and c.chosen.tile})
    return Choices(tuple(chosen), time.perf_counter() - begin)


def chosen_tiles(choices: Choices) -> Tiles:
    """The layers that are computed in tiles."""
    return tuple((one.layer, one.shape, one.chosen.tile) for one in choices.layers if one.chosen.tile)


def has_large_kernels(network: PCNetwork, size: int) -> bool:
    """Whether a transposed convolution has constant weights, and a kernel of at least this size."""
    layers = [one for one in network.predictors.modules() if isinstance(one, nn.ConvTranspose2d)]
    constant = not any(one.weight.requires_grad for one in layers)
    return constant and any(min(one.kernel_size) >= size for one in layers)


def use_tiles(network: PCNetwork, tiles: Tiles) -> None:
    """Compute these layers in tiles, and all others directly; without any, as runs choose by themselves."""
    for name, layer in _replaced(network.predictors):
        layer.choose({shape: tile for one, shape, tile in tiles if one == name} if tiles else None)


def _replaced(module: nn.Module, path: str = "") -> Iterator[tuple[str, TiledConvTranspose2d]]:
    """Make each plain transposed convolution below ``module`` one that can be computed in tiles."""
    for name, child in list(module.named_children()):
        if type(child) in (nn.ConvTranspose2d, PartedConvTranspose2d) and is_plain(child):
            assert isinstance(child, nn.ConvTranspose2d)
            child = TiledConvTranspose2d.like(child)
            module.add_module(name, child)
        if isinstance(child, TiledConvTranspose2d):
            yield path + name, child
        else:
            yield from _replaced(child, f"{path}{name}.")


def _shapes(
    network: PCNetwork, layers: Mapping[str, TiledConvTranspose2d], batch: int
) -> list[tuple[str, Shape]]:
    """The layers with the shapes of their inputs, without computing."""
    seen: list[tuple[str, Shape]] = []

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return layer.register_forward_pre_hook(lambda _, given: seen.append((name, tuple(given[0].shape))))

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        with uninterrupted(), FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            for name, predictor in network.predictors.items():
                sources = [network.graph.nodes[source].shape for source in network.graph.edges[name].sources]
                predictor(
                    *(
                        torch.empty(batch, *shape, device=network.device, dtype=network.dtype)
                        for shape in sources
                    )
                )
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(seen))


def _within(choices: list[Choice], memory: float) -> list[Choice]:
    """Give up what saves the least time a byte until the transformed weights fit."""
    while sum(choice.chosen.bytes for choice in choices) > memory:
        steps = [
            ((way.seconds - choice.chosen.seconds) / (choice.chosen.bytes - way.bytes), index, way)
            for index, choice in enumerate(choices)
            for way in choice.ways
            if way.bytes < choice.chosen.bytes
        ]
        _, index, way = min(steps, key=lambda step: step[:2])
        choices[index] = replace(choices[index], chosen=way)
    return choices
