"""What ends a run before its last step: states that are still, and states that are not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcgraph.errors import DivergenceError
from pcgraph.state import State
from pcgraph.tracing.numberless import has_numbers


def is_still(before: State, after: State, nodes: Sequence[str], tolerance: float | None) -> bool:
    """Whether no state changed by more than this share of its norm; never, without a tolerance."""
    if tolerance is None:
        return False
    with torch.no_grad():
        return all(
            torch.linalg.vector_norm(after.values[node] - before.values[node])
            <= tolerance * torch.linalg.vector_norm(before.values[node])
            for node in nodes
        )


def check_finite(state: State, nodes: Sequence[str]) -> None:
    """Make sure that all numbers of these nodes are finite.

    That is one synchronisation: a sum that is finite has finite terms; only a doubt is looked into.

    Raises:
        DivergenceError: A state is not finite.
    """
    if not nodes or not has_numbers(state.values[nodes[0]]):  # then whoever compiles looks at what comes out
        return
    with torch.no_grad():
        sums = [state.values[node].sum() for node in nodes]
        if math.isfinite(torch.stack(sums).sum().item()):
            return
        for node in nodes:
            if not torch.isfinite(state.values[node]).all():
                hint = "Lower the gains (or rate) that move it, or look at the errors before this step."
                raise DivergenceError(node, state.step, hint)


def finite_images(state: State, nodes: Sequence[str]) -> Tensor:
    """Of each image (batch,) whether all its states are finite; on the processor."""
    finite = torch.ones(state.batch, dtype=torch.bool)
    for node in nodes:
        finite &= torch.isfinite(state.values[node]).flatten(1).all(dim=1).cpu()
    return finite
