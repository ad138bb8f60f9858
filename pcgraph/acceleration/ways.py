"""Ways to do the same work, what was measured of them, and which was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pcgraph.acceleration.choose import Tiles


@dataclass(frozen=True)
class Variant:
    """A way to run a network, or to let it learn.

    Attributes:
        channels_last: How the weights, and with them the states, lie in memory.
        tiles: The large kernels that are computed in tiles; see `choose_convolutions`.
        compiled: Whether the steps, or the work of a batch, are compiled.
        threads: How many of torch's, of those that a training may use; None: not looked at.
        seconds: A step, with its share of the first pass; or a batch.
    """

    channels_last: bool = False
    tiles: Tiles = ()
    compiled: bool = False
    threads: int | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = ["tiles"] if self.tiles else []
        parts += ["compiled"] if self.compiled else ["channels-last"] if self.channels_last else []
        parts = parts or ["as it is"]
        if self.threads is not None:
            parts.append("1 thread" if self.threads == 1 else f"{self.threads} threads")
        return f"{', '.join(parts)} {self.seconds * 1e3:.3g} ms"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured, and chosen; as text a line.

    Attributes:
        chosen: The fastest way, if it is faster by more than measurements differ.
        variants: All that were measured; the first is the network as it was.
        seconds: What that took.
        recalled: Whether it was measured before, by an earlier process perhaps.
        unit: What the variants' seconds are of.
    """

    chosen: Variant
    variants: tuple[Variant, ...]
    seconds: float
    recalled: bool = False
    unit: str = "step"

    def __str__(self) -> str:
        measured = f"{self.chosen} a {self.unit}; measured: {'; '.join(map(str, self.variants))}"
        if self.recalled:
            return f"{measured}, by an earlier process"
        saved = self.variants[0].seconds - self.chosen.seconds
        many = "batches" if self.unit == "batch" else f"{self.unit}s"
        paid = f", paid off after {self.seconds / saved:.0f} {many}" if saved > 0 else ""
        return f"{measured}, in {self.seconds:.1f} s{paid}"


def has_maps(module: nn.Module) -> bool:
    """Whether it has weights that can lie channels-last."""
    return any(weight.dim() == 4 for weight in module.parameters())


def is_channels_last(module: nn.Module) -> bool:
    """Whether its maps lie so."""
    maps = [weight for weight in module.parameters() if weight.dim() == 4 and not weight.is_contiguous()]
    return any(weight.is_contiguous(memory_format=torch.channels_last) for weight in maps)
