"""How large the rate of inference may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pcgraph.errors import InputError
from pcgraph.learning.local import Local
from pcgraph.network import PCNetwork


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
    local = Local(network)
    state = local.scheduler.start(clamp=clamp)
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
    largest = 0.0
    for _ in range(iterations):
        norm = torch.stack([part.norm() for part in vector]).norm()
        vector = [part / norm for part in vector]
        scaled = [root * part for root, part in zip(roots, vector, strict=True)]
        product = torch.autograd.grad(
            slopes, list(leaves.values()), scaled, retain_graph=True, materialize_grads=True
        )
        vector = [root * part for root, part in zip(roots, product, strict=True)]
        largest = float(torch.stack([part.norm() for part in vector]).norm())
        if largest == 0.0:
            return float("inf")
    return 2 / largest
