"""Ways in which states follow the gradient of the energy, besides the plain step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pcgraph.spec.dynamics import EnergyDynamics

EPSILON = 1e-8
"""What Adam adds to the root of the mean square, as in torch."""
Moments = Mapping[str, tuple[Tensor, ...]]


class Pace(NamedTuple):
    """What a step depends on besides the state: its time, and chance.

    Attributes:
        factor: Of all rates.
        corrections: ``1 - beta^t`` of both of Adam's means.
        noise: What is added to each node at last; empty without a temperature.
        draws: What a backbone that is random in eval mode draws for the state that follows.
    """

    factor: float | Tensor = 1.0
    corrections: tuple[float | Tensor, ...] = ()
    noise: Mapping[str, Tensor] = {}
    draws: Mapping[str, Tensor] = {}

    def as_tensors(self) -> Pace:
        """The same for a compiled step, which would be compiled anew for every other number."""
        dtype = torch.float64
        return Pace(
            torch.tensor(self.factor, dtype=dtype),
            tuple(torch.tensor(one, dtype=dtype) for one in self.corrections),
            self.noise,
            self.draws,
        )


class Descent:
    """Momentum, Adam, rates that fall, and Langevin noise, for the states of rule ``energy``.

    With ``g`` the gradient of the energy, ``eta_t`` the node's rate at step t = 1, 2, ... and beta 1 and 2
    the ``betas``:

    * ``momentum``: ``v <- beta_1 v + g``, ``x <- x - eta_t v`` (Polyak; torch's SGD).
    * ``adam``: Kingma and Ba 2015, algorithm 1.
    * A temperature T adds ``sqrt(2 eta_t T)`` times standard normal noise: the unadjusted Langevin
      algorithm, which at small rates samples from ``exp(-F / T)``.

    Args:
        spec: What the spec says of the dynamics.
        rate: The rate of each node before any decay.
    """

    def __init__(self, spec: EnergyDynamics, rate: Mapping[str, float]) -> None:
        self.spec = spec
        self.rate = rate
        self.kept = {"gradient": 0, "momentum": 1, "adam": 2}[spec.optimizer]

    @staticmethod
    def needed(spec: EnergyDynamics) -> bool:
        """Whether the spec asks for anything but the plain step."""
        return spec.optimizer != "gradient" or spec.decay is not None or spec.temperature > 0

    def start(self, values: Mapping[str, Tensor], fixed: frozenset[str]) -> Moments:
        """What each moving node remembers at step 0."""
        if not self.kept:
            return {}
        moving = [name for name in values if name not in fixed and self.rate[name]]
        return {name: tuple(torch.zeros_like(values[name]) for _ in range(self.kept)) for name in moving}

    def pace(
        self,
        step: int,
        values: Mapping[str, Tensor],
        fixed: frozenset[str],
        generator: torch.Generator | None,
    ) -> Pace:
        """The pace of the step that follows ``step`` others."""
        decay = self.spec.decay
        factor = 1.0 if decay is None else decay.factor(step)
        corrections = tuple(1 - beta ** (step + 1) for beta in self.spec.betas)
        noise: dict[str, Tensor] = {}
        for name, value in values.items() if self.spec.temperature else ():
            if name not in fixed:
                device = generator.device if generator else value.device
                drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype, device=device)
                spread = math.sqrt(2 * self.rate[name] * factor * self.spec.temperature)
                noise[name] = spread * drawn.to(value.device)
        return Pace(factor, corrections, noise)

    def move(
        self, node: str, value: Tensor, slope: Tensor, moments: Moments, pace: Pace
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The node's next value and what it remembers.

        Args:
            node: The node.
            value: Its value.
            slope: Minus the gradient of the energy.
            moments: What the nodes remember.
            pace: The step's.
        """
        rate = self.rate[node] * pace.factor
        kept: tuple[Tensor, ...] = ()
        if self.spec.optimizer == "gradient":
            change = rate * slope
        elif self.spec.optimizer == "momentum":
            kept = (self.spec.betas[0] * moments[node][0] + slope,)
            change = rate * kept[0]
        else:
            (first, second), (beta1, beta2) = moments[node], self.spec.betas
            kept = (torch.lerp(slope, first, beta1), torch.lerp(slope.square(), second, beta2))
            root = (kept[1] / pace.corrections[1]).sqrt() + EPSILON
            change = rate * (kept[0] / pace.corrections[0]) / root
        moved = value + change.to(value.dtype)
        noise = pace.noise.get(node)
        return (moved if noise is None else moved + noise), tuple(one.to(value.dtype) for one in kept)
