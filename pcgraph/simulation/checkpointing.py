"""Activation checkpointing of one step: keep the states, compute the step again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from pcgraph.dynamics.descent import Pace
from pcgraph.simulation.pullback import Differentiable
from pcgraph.state import State

Step = Callable[[State, Pace | None, Differentiable], State]
Pure = Callable[[tuple[Tensor, ...], bool], tuple[Tensor, ...]]


def checkpointed(step: Step, parameters: Sequence[Tensor]) -> Step:
    """A differentiable step that keeps only its inputs.

    The forward pass is the plain step; the backward pass makes the step once more with a graph.
    `torch.utils.checkpoint` would make it twice more, since the step itself takes gradients.

    Args:
        step: Makes a step.
        parameters: What gradients flow to besides the state.
    """

    def kept(state: State, pace: Pace | None, differentiable: Differentiable) -> State:
        moving = [name for name in state.values if name not in state.fixed]
        parts = (state.values, state.past, state.constants, state.resting, state.moments)
        leaves, tree = tree_flatten([dict(part) for part in parts])
        places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

        def pure(given: tuple[Tensor, ...], keep_graph: bool) -> tuple[Tensor, ...]:
            fresh = list(leaves)
            for index, tensor in zip(places, given, strict=True):
                fresh[index] = tensor
            values, past, constants, resting, moments = tree_unflatten(fresh, tree)
            restored = replace(
                state, values=values, past=past, constants=constants, resting=resting, moments=moments
            )
            following = step(restored, pace, differentiable if keep_graph else False)
            remembered = [moment for name in state.moments for moment in following.moments[name]]
            return (*(following.values[name] for name in moving), *remembered)

        results = _Step.apply(pure, len(places), *[leaves[index] for index in places], *parameters)
        values = {**state.values, **dict(zip(moving, results[: len(moving)], strict=True))}
        remembered = iter(results[len(moving) :])
        moments = {name: tuple(next(remembered) for _ in before) for name, before in state.moments.items()}
        return state.followed_by(values, moments, pace.draws if pace else {})

    return kept


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Pure, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        device = tensors[0].device.type
        ctx.step, ctx.count = step, count
        ctx.autocast = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }
        ctx.save_for_backward(*tensors)
        return step(tensors[:count], False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        given = [t.detach().requires_grad_(t.requires_grad) for t in saved[: ctx.count]]
        with torch.enable_grad(), torch.autocast(**ctx.autocast):
            results = ctx.step(tuple(given), True)
        wanted = [t for t in (*given, *saved[ctx.count :]) if t.requires_grad]
        flowing = [(r, g) for r, g in zip(results, gradients, strict=True) if r.requires_grad]
        found = iter(
            torch.autograd.grad([r for r, _ in flowing], wanted, [g for _, g in flowing], allow_unused=True)
        )
        back = [next(found) if t.requires_grad else None for t in (*given, *saved[ctx.count :])]
        return None, None, *back
