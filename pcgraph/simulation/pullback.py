"""One vector-Jacobian product of a function of states, eager or inside a compiled step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Differentiable = bool | Literal["first_order"]
Pull = Callable[[Sequence[Tensor]], list[Tensor | None]]


def pullback(
    function: Callable[..., tuple[Tensor, ...]], values: Sequence[Tensor], differentiable: Differentiable
) -> tuple[tuple[Tensor, ...], Pull]:
    """Evaluate ``function(*values)`` so that errors of its results can be carried back to ``values``.

    Args:
        function: From tensors to a tuple of tensors.
        values: Where it is evaluated.
        differentiable: True lets gradients flow through what is carried back, ``"first_order"``
            through the results only, False through neither.

    Returns:
        The results, and a function from one cotangent a result to the product for each of
        ``values``; None where nothing depends on it.
    """
    if torch.compiler.is_compiling():  # the compiler sees through this one; eager, the other is faster
        compiled, back, *_ = torch.func.vjp(function, *values)
        return compiled, lambda cotangents: list(back(tuple(cotangents)))
    leaves = [_leaf(value, differentiable) for value in values]
    with torch.enable_grad():
        results = function(*leaves)

    def pull(cotangents: Sequence[Tensor]) -> list[Tensor | None]:
        tied = [(r, c) for r, c in zip(results, cotangents, strict=True) if r.requires_grad]
        if not tied:
            return [None] * len(leaves)
        return list(
            torch.autograd.grad(
                [result for result, _ in tied],
                leaves,
                [c if differentiable is True else c.detach() for _, c in tied],
                create_graph=differentiable is True,
                retain_graph=bool(differentiable),
                allow_unused=True,
            )
        )

    return results, pull


def _leaf(value: Tensor, differentiable: Differentiable) -> Tensor:
    """The same values as a place to take gradients at, tied to the graph so far if there is one."""
    if differentiable and value.requires_grad:
        return value.view_as(value)
    return value.detach().requires_grad_()
