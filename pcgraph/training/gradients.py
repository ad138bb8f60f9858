"""Losses to gradients: the one place where weights get theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Differentiated(dict[str, Tensor]):
    """Losses by name whose gradient was computed together with them.

    Args:
        losses: Scalars.
        gradients: Of their sum, for each parameter that learns, in order.
    """

    def __init__(self, losses: Mapping[str, Tensor], gradients: Sequence[Tensor]) -> None:
        super().__init__(losses)
        self.gradients = gradients


def clear(parameters: Iterable[nn.Parameter]) -> None:
    """Forget all gradients, so that the next ones need not be added to anything."""
    for parameter in parameters:
        parameter.grad = None


def differentiate(
    losses: Mapping[str, Tensor],
    parameters: Sequence[nn.Parameter],
    *,
    share: float = 1.0,
    backward: Callable[..., Any] = Tensor.backward,
) -> None:
    """Add the gradient of the sum of some losses to ``grad`` of each parameter; zeros where it has none.

    Args:
        losses: Scalars.
        parameters: Nothing else gets a gradient.
        share: Factor of the sum.
        backward: How the graph is gone through; mixed precision scales on the way.
    """
    if isinstance(losses, Differentiated):
        for parameter, gradient in zip(parameters, losses.gradients, strict=True):
            added = gradient if share == 1 else gradient * share
            parameter.grad = added if parameter.grad is None else parameter.grad + added
        return
    values = [loss.float() if loss.dtype.itemsize < 4 else loss for loss in losses.values()]
    total = torch.stack(values).sum()
    if total.requires_grad and parameters:
        backward(total if share == 1 else total * share, inputs=list(parameters))
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def each_as_one(tensors: Sequence[Tensor], change: Callable[[Tensor], Tensor]) -> None:
    """Change tensors in place as if they were one vector: one message instead of many."""
    if tensors:
        flat = change(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
