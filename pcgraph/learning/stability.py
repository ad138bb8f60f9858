"""How large the rate of inference may be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pcgraph.errors import InputError, RisingEnergyError
from pcgraph.learning.local import Local
from pcgraph.network import PCNetwork
from pcgraph.spec import EnergyDynamics
from pcgraph.state import State


def stability_margin(
    network: PCNetwork, clamp: Mapping[str, Tensor], *, iterations: int = 100, seed: int = 0
) -> float:
    """How many times larger all rates could be before inference diverges; below 1 it does.

    Gradient descent with rates R lowers a quadratic energy at every step if the largest eigenvalue of
    ``R^(1/2) H R^(1/2)`` is below 2, with H the Hessian of the energy for the states that move. The margin
    is 2 over that eigenvalue, found by power iteration at the start of inference. For linear predictions
    it holds everywhere; for others H changes with the states, so keep well below it.

    Args:
        network: A network with dynamics ``rule: energy``.
        clamp: What is clamped, as for `learn`: values (batch, *shape) by node.
        iterations: Steps of the power iteration.
        seed: Seed of its first vector.

    Raises:
        InputError: Another rule, a clamp that does not fit, or no state that moves.
    """
    return _margin(network, Local(network).scheduler.start(clamp=clamp), iterations, seed)


class EnergyWatch:
    """Raises where the energy keeps rising, which no rate below the stability limit makes it do.

    It is for ``Scheduler.run(watch=...)``, one for each run. It looks at the energies that are recorded
    anyway, and waits for several rises in a row that are no rounding, so that a first step too far on a
    curved energy is no alarm.

    Args:
        network: A network for which `applies` holds.
    """

    patience = 3
    """Rises in a row that are divergence."""
    rounding = 1e-5
    """Share of the energy that a rise has to exceed."""

    def __init__(self, network: PCNetwork) -> None:
        self.network = network
        self.totals: list[float] = []

    @staticmethod
    def applies(network: PCNetwork) -> bool:
        """Whether a step is one of gradient descent: else the energy may rise at any rate.

        That is rule ``energy`` with the plain gradient, no temperature, and all delays 1.
        """
        dynamics = network.spec.dynamics
        plain = isinstance(dynamics, EnergyDynamics) and dynamics.optimizer == "gradient"
        still = plain and isinstance(dynamics, EnergyDynamics) and dynamics.temperature == 0
        return still and all(edge.delay == 1 for edge in network.graph.edges.values())

    def __call__(self, state: State, energy: Mapping[str, Tensor]) -> None:
        """Look at one step.

        Raises:
            RisingEnergyError: The energy has risen at each of the last steps.
        """
        sums = torch.stack([one.detach().double().sum() for one in energy.values()]).tolist()
        terms: dict[str, float] = dict(zip(energy, sums, strict=True))
        self.totals = [*self.totals[-self.patience :], sum(terms.values())]
        rises = [after - before for before, after in itertools.pairwise(self.totals)]
        if len(rises) < self.patience or not all(
            rise > self.rounding * abs(before) for rise, before in zip(rises, self.totals, strict=False)
        ):
            return
        most = self.network.graph.terms[max(terms, key=terms.__getitem__)][0].target
        hint = _slower(self.network, state)
        raise RisingEnergyError(most, state.step, self.totals[0], self.totals[-1], hint)


def _slower(network: PCNetwork, state: State) -> str:
    margin = _margin(network, state, iterations=100, seed=0)
    how = f": with these weights to {margin:.2g} times what they are" if margin < 1 else ""
    return f"Lower the rates under 'dynamics'{how}."


def _margin(network: PCNetwork, state: State, iterations: int, seed: int) -> float:
    """`stability_margin` at a state; what a mask holds does not move."""
    local = Local(network)
    moving = [name for name in state.values if name not in state.fixed and local.rate[name] > 0]
    if not moving:
        raise InputError("no state moves: all nodes are clamped or have rate 0")
    leaves = {name: state.values[name].detach().requires_grad_() for name in moving}
    values = {**state.values, **leaves}
    with torch.inference_mode(False), torch.enable_grad():
        mu = local.predict(replace(state, values=values), through=True).mu
        energy = torch.stack(list(local.energies(mu, values).values())).sum() * state.batch
        slopes = torch.autograd.grad(energy, list(leaves.values()), create_graph=True, materialize_grads=True)
    roots = [local.rate[name] ** 0.5 for name in moving]
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(s.shape, generator=generator, dtype=s.dtype).to(s.device) for s in slopes]
    free = [~held if (held := state.clamp.get(name)) is not None else None for name in moving]
    largest = 0.0
    for _ in range(iterations):
        norm = torch.stack([part.norm() for part in vector]).norm()
        vector = [part / norm for part in vector]
        vector = [part if where is None else part * where for part, where in zip(vector, free, strict=True)]
        scaled = [root * part for root, part in zip(roots, vector, strict=True)]
        product = torch.autograd.grad(
            slopes, list(leaves.values()), scaled, retain_graph=True, materialize_grads=True
        )
        vector = [root * part for root, part in zip(roots, product, strict=True)]
        vector = [part if where is None else part * where for part, where in zip(vector, free, strict=True)]
        largest = float(torch.stack([part.norm() for part in vector]).norm())
        if largest == 0.0:
            return float("inf")
    return 2 / largest
