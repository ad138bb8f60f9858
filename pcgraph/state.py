"""The state of a simulation, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from pcgraph.display.text import format_shape, listing


@dataclass(frozen=True)
class State:
    """All that a step reads. A step returns a new one and changes nothing.

    Attributes:
        values: The state of every node, (batch, *shape).
        past: For nodes that an edge reads with a delay of 2 or more: earlier values, latest first.
        clamp: Clamped nodes; the mask says which part (True is clamped), None means all of it.
        constants: What the backbone computes from fully clamped nodes alone.
        resting: Predictions of edges that read fully clamped nodes alone.
        moments: What the dynamics remember of each node's gradients (momentum, Adam).
        step: Steps made since the start.
        draws: The numbers that a backbone draws at this step; empty unless it is random in eval mode.
        seed: What they depend on, besides the step.
        places: And the place of each image in its data.
    """

    values: Mapping[str, Tensor]
    past: Mapping[str, tuple[Tensor, ...]]
    clamp: Mapping[str, Tensor | None]
    constants: Mapping[str, Any]
    resting: Mapping[str, Tensor]
    moments: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    step: int = 0
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0
    places: tuple[int, ...] = ()

    def __repr__(self) -> str:
        nodes = {name: format_shape(tuple(value.shape[1:])) for name, value in self.values.items()}
        held = [name if name in self.fixed else f"{name} in part" for name in nodes if name in self.clamp]
        lines = [
            f"State at step {self.step}, batch of {self.batch}",
            f"  nodes: {listing(f'{name} {shape}'.rstrip() for name, shape in nodes.items())}",
            f"  held: {listing(held)}" if held else "  held: none",
        ]
        return "\n".join(lines)

    @property
    def fixed(self) -> frozenset[str]:
        """Nodes that are clamped as a whole."""
        return frozenset(name for name, mask in self.clamp.items() if mask is None)

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(next(iter(self.values.values())))

    def read(self, node: str, delay: int) -> Tensor:
        """The value of ``node`` as the next step's edges of this delay (1 or more) see it."""
        return self.values[node] if delay == 1 else self.past[node][delay - 2]

    def followed_by(
        self,
        values: Mapping[str, Tensor],
        moments: Mapping[str, tuple[Tensor, ...]] | None = None,
        draws: Mapping[str, Tensor] = {},
    ) -> State:
        """The state one step later: with these values, moments (where the dynamics keep any), and draws."""
        past = {node: (self.values[node], *earlier[:-1]) for node, earlier in self.past.items()}
        kept = self.moments if moments is None else moments
        return replace(self, values=values, past=past, moments=kept, step=self.step + 1, draws=draws)
