"""How strongly errors of a prediction are carried back to what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pcgraph.dynamics.eigenvalues import largest_eigenvalue

RESIDUAL, PRODUCTS = 0.02, 12
"""Products end where the residual is so small a share of a stretch, or with so many."""


def stretch(predict: Callable[..., Tensor], sources: Sequence[Tensor], index: int = 0) -> float:
    """The largest eigenvalue of ``J^T J``, with J the Jacobian for one source: the square of its norm.

    Args:
        predict: From one tensor (batch, *shape) a source to the prediction.
        sources: Where the Jacobian is taken. Of a batch the largest counts.
        index: The source that is moved.
    """
    moved = sources[index].detach().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        prediction = predict(*sources[:index], moved, *sources[index + 1 :])
        if not prediction.requires_grad:
            return 0.0
        along = torch.zeros_like(prediction, requires_grad=True)
        back = torch.autograd.grad(
            prediction, moved, along, create_graph=True, retain_graph=True, materialize_grads=True
        )[0]
    if not back.requires_grad:
        return 0.0

    def product(vector: Tensor) -> Tensor:
        ahead = torch.autograd.grad(back, along, vector.view_as(moved), retain_graph=True)[0]
        return torch.autograd.grad(prediction, moved, ahead, retain_graph=True)[0].flatten()

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(moved.numel(), generator=generator, dtype=moved.dtype).to(moved.device)
    return max(0.0, largest_eigenvalue(product, start, size=PRODUCTS, restarts=1, tolerance=RESIDUAL).real)


def pull(predict: Callable[..., Tensor], sources: Sequence[Tensor], target: Tensor, index: int = 0) -> float:
    """Norm of ``J^T (target - prediction)``, what an error does to a source, as a share of the source's.

    Args:
        predict: From one tensor (batch, *shape) a source to the prediction.
        sources: The states that predict.
        target: The state that is predicted.
        index: The source that is pulled.
    """
    moved = sources[index].detach().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        prediction = predict(*sources[:index], moved, *sources[index + 1 :])
        if not prediction.requires_grad:
            return 0.0
        error = (target - prediction).detach()
        back = torch.autograd.grad(prediction, moved, error, materialize_grads=True)[0]
    norm = float(moved.detach().norm())
    return float(back.norm()) / norm if norm > 0 else float("inf")
