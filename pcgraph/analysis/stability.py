"""Whether a whole step holds: the largest eigenvalue of its Jacobian, delays included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pcgraph.dynamics.eigenvalues import largest_eigenvalue
from pcgraph.errors import Fault, InputError
from pcgraph.scheduler import Scheduler
from pcgraph.spec import EnergyDynamics
from pcgraph.state import State


def spectral_radius(scheduler: Scheduler, state: State, *, tolerance: float = 1e-3, seed: int = 0) -> float:
    """By which factor a small change of a state grows a step, in the long run: |`step_eigenvalue`|.

    Below 1 a linear network settles, above 1 it runs away; of others this tells what happens near the state.
    """
    return abs(step_eigenvalue(scheduler, state, tolerance=tolerance, seed=seed))


def step_eigenvalue(
    scheduler: Scheduler,
    state: State,
    *,
    tolerance: float = 1e-3,
    seed: int = 0,
    size: int = 24,
    restarts: int = 20,
) -> complex:
    """The eigenvalue of largest modulus of the step's Jacobian at a state.

    The space is all that a step changes: the values that move, those that delays remember, and momentum.
    The rates are those of the state's step. A negative eigenvalue is a state that overshoots, a complex one
    an oscillation.

    Args:
        scheduler: The network's scheduler.
        state: From `Scheduler.start` or `Scheduler.step`.
        tolerance: Of the residual, as a share of the eigenvalue.
        seed: Seed of the iteration's first vector.
        size: Vectors of that space that are kept; see `largest_eigenvalue`.
        restarts: Each takes up to ``size`` vector-Jacobian products of the step.

    Raises:
        InputError: No state moves; or the optimizer is Adam, whose steps are no map of the states alone.
    """
    dynamics = scheduler.network.spec.dynamics
    if isinstance(dynamics, EnergyDynamics) and dynamics.optimizer == "adam":
        hint = "Take 'gradient' or 'momentum'."
        raise InputError(
            Fault("steps of optimizer 'adam' depend on the time", ("dynamics", "optimizer"), hint)
        )
    moving = [name for name in state.values if name not in state.fixed]
    if not moving:
        raise InputError("no state moves: all nodes are clamped")
    product, start = _transposed_step(scheduler, state, moving, seed)
    return largest_eigenvalue(product, start, size=size, restarts=restarts, tolerance=tolerance)


def _transposed_step(
    scheduler: Scheduler, state: State, moving: list[str], seed: int
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Products of the transposed Jacobian, which has the same eigenvalues, and a first vector."""
    values = {name: state.values[name].detach().requires_grad_() for name in moving}
    past = {n: tuple(t.detach().requires_grad_() for t in state.past[n]) for n in moving if n in state.past}
    moments = {n: tuple(t.detach().requires_grad_() for t in kept) for n, kept in state.moments.items()}

    def parts(of: State) -> list[Tensor]:
        listed = [of.values[name] for name in moving]
        return [*listed, *(t for n in past for t in of.past[n]), *(t for n in moments for t in of.moments[n])]

    before = replace(state, values={**state.values, **values}, past={**state.past, **past}, moments=moments)
    generator = torch.Generator().manual_seed(seed)
    after = scheduler.step(before, generator=generator, differentiable=True)
    inputs, outputs = parts(before), parts(after)
    sizes = [one.numel() for one in inputs]
    free = torch.cat([_free(state, name) for name in moving])
    free = torch.cat([free, free.new_ones(sum(sizes) - len(free))])

    def product(vector: Tensor) -> Tensor:
        pieces = torch.split(vector * free, sizes)
        shaped = [piece.view_as(output) for piece, output in zip(pieces, outputs, strict=True)]
        back = torch.autograd.grad(outputs, inputs, shaped, retain_graph=True, materialize_grads=True)
        return torch.cat([one.flatten() for one in back]) * free

    return product, torch.randn(len(free), generator=generator, dtype=free.dtype).to(free.device) * free


def _free(state: State, node: str) -> Tensor:
    """1 where a node's entries move, 0 where a mask holds them."""
    held, value = state.clamp.get(node), state.values[node]
    return torch.ones_like(value).flatten() if held is None else (~held).to(value.dtype).flatten()
