"""Activation checkpointing of one step: keep the states, compute the step again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from pcgraph.state import State

if TYPE_CHECKING:
    from pcgraph.scheduler import Scheduler

Pure = Callable[[tuple[Tensor, ...], bool], tuple[Tensor, ...]]


def checkpointed(scheduler: Scheduler, state: State, differentiable: bool | Literal["first_order"]) -> State:
    """One differentiable step that keeps only its inputs.

    The forward pass is the plain step; the backward pass makes the step once more with a graph.
    `torch.utils.checkpoint` would make it twice more, since the step itself takes gradients.
    """
    moving = [name for name in state.values if name not in state.fixed]
    fields = ("values", "past", "constants", "resting")
    places = [
        (field, name, index)
        for field in fields
        for name, value in getattr(state, field).items()
        for index, tensor in enumerate(value if field == "past" else (value,))
        if isinstance(tensor, Tensor)
    ]
    tensors = [_lookup(state, *place) for place in places]

    def step(given: tuple[Tensor, ...], keep_graph: bool) -> tuple[Tensor, ...]:
        restored = _restored(state, places, given)
        following = scheduler.step(restored, differentiable=differentiable if keep_graph else False)
        return tuple(following.values[name] for name in moving)

    parameters = [p for p in scheduler.network.parameters() if p.requires_grad]
    results = _Step.apply(step, len(tensors), *tensors, *parameters)
    values = {**state.values, **dict(zip(moving, results, strict=True))}
    past = {name: (state.values[name], *earlier[:-1]) for name, earlier in state.past.items()}
    return replace(state, values=values, past=past, step=state.step + 1)


def _lookup(state: State, field: str, name: str, index: int) -> Tensor:
    value: Any = getattr(state, field)[name]
    found: Tensor = value[index] if field == "past" else value
    return found


def _restored(state: State, places: list[tuple[str, str, int]], given: tuple[Tensor, ...]) -> State:
    fresh: dict[str, dict[str, Any]] = {
        "values": dict(state.values),
        "past": {name: list(earlier) for name, earlier in state.past.items()},
        "constants": dict(state.constants),
        "resting": dict(state.resting),
    }
    for (field, name, index), tensor in zip(places, given, strict=True):
        if field == "past":
            fresh[field][name][index] = tensor
        else:
            fresh[field][name] = tensor
    fresh["past"] = {name: tuple(earlier) for name, earlier in fresh["past"].items()}
    return replace(state, **fresh)


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
