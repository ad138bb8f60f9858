"""The leading modes of a step: what grows most, or dies away last."""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcgraph.analysis.jacobian import Block, StepJacobian
from pcgraph.errors import Fault, InputError
from pcgraph.scheduler import Scheduler
from pcgraph.state import State

SMALL = 200
"""Dimensions up to which the whole matrix is made."""
VECTORS = 40
"""Vectors of the Krylov space, unless more modes are asked for."""
SPACES = 30
"""Such spaces that are built at most."""


@dataclass(frozen=True)
class Mode:
    """One mode of a step: a change of the states that becomes ``eigenvalue`` times itself.

    Attributes:
        eigenvalue: Of a pair of complex ones, each is a mode.
        shares: By node that moves, the share of the squared norm of the change of values; they add up to 1.
            Told of the nodes that the mode runs through, not of those that only follow them.
        image: The image of the batch whose states change most; images do not depend on each other.
    """

    eigenvalue: complex
    shares: Mapping[str, float]
    image: int

    @property
    def modulus(self) -> float:
        """The factor a step."""
        return abs(self.eigenvalue)

    @property
    def period(self) -> float:
        """Steps of one oscillation: 2 where the change turns its sign at every step, infinite without any."""
        angle = abs(cmath.phase(self.eigenvalue))
        return 2 * math.pi / angle if angle else math.inf


def leading_modes(
    scheduler: Scheduler, state: State, count: int = 3, *, tolerance: float | None = None, seed: int = 0
) -> list[Mode]:
    """The modes of largest eigenvalues of the step's Jacobian at a state, largest first.

    Each set of nodes that act back on each other has its own (`StepJacobian.loops`). By ARPACK, an
    implicitly restarted Arnoldi iteration (Lehoucq, Sorensen and Yang 1998), on products with the Jacobian;
    in few dimensions from the whole matrix. Where a network has kinks (ReLU, ties in pooling), the Jacobian
    is the one that autograd chooses. In float32 moduli are good to about 0.002: rounding moves the
    eigenvalues of nodes that hardly act back on each other by far more than the residual.

    Args:
        scheduler: The network's scheduler.
        state: From `Scheduler.start` or `Scheduler.step`.
        count: How many; fewer where the space, that of `StepJacobian`, has fewer dimensions.
        tolerance: Of the residual, as a share of the eigenvalue; left out, 1e-9 for float64 and else 1e-4.
        seed: Seed of the iteration's first vector.

    Raises:
        InputError: No state moves; the optimizer is Adam; scipy is not installed; a product is not finite; or
            the iteration does not converge.
    """
    jacobian = StepJacobian(scheduler, state, seed=seed)
    found = [one for block in jacobian.loops() for one in _of_block(jacobian, block, count, tolerance)]
    return sorted(found, key=_rank)[:count]


def _of_block(jacobian: StepJacobian, block: Block, count: int, tolerance: float | None) -> list[Mode]:
    """The leading modes of nodes that act back on each other."""
    if block.size <= max(SMALL, 2 * count + 2):
        values, vectors = np.linalg.eig(_matrix(block))
    else:
        values, vectors = _by_arpack(block, count, tolerance)
    order = np.argsort(-np.abs(values), kind="stable")[: count + 1]  # with the twin of a complex one
    return [_mode(jacobian, block, complex(values[place]), vectors[:, place]) for place in order]


def _rank(mode: Mode) -> tuple[float, float, float]:
    return -round(mode.modulus, 9), -mode.eigenvalue.real, mode.eigenvalue.imag


def _by_arpack(jacobian: Block, count: int, tolerance: float | None) -> tuple[Any, Any]:
    from pcgraph.analysis.needs import need

    linalg = need("scipy.sparse.linalg", "study", "leading modes")
    free = jacobian.free

    def times(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        product = jacobian.times(torch.from_numpy(vector.ravel()).to(free))
        found = product.double().cpu().numpy()
        if not np.isfinite(found).all():
            raise InputError("the Jacobian of the step is not finite there")
        return found

    tolerance = (1e-9 if free.dtype == torch.float64 else 1e-4) if tolerance is None else tolerance
    whole = linalg.LinearOperator((jacobian.size, jacobian.size), matvec=times, dtype=np.float64)
    start = jacobian.random().double().cpu().numpy()
    size = max(VECTORS, 2 * count + 2)
    try:
        values, vectors = linalg.eigs(
            whole, k=count, which="LM", v0=start, ncv=size, maxiter=SPACES, tol=tolerance
        )
    except linalg.ArpackNoConvergence:  # some have, and need not be the largest
        hint = "Ask for fewer modes, or take float64."
        raise InputError(Fault("the leading modes did not converge", hint=hint)) from None
    return values, vectors


def _matrix(jacobian: Block) -> NDArray[np.float64]:
    """All of it, (size, size), column by column."""
    columns = [jacobian.times(unit) for unit in torch.eye(jacobian.size).to(jacobian.free)]
    found = torch.stack(columns, dim=1).double().cpu().numpy()
    if not np.isfinite(found).all():
        raise InputError("the Jacobian of the step is not finite there")
    return found


def _mode(jacobian: StepJacobian, block: Block, eigenvalue: complex, vector: NDArray[np.complex128]) -> Mode:
    squares = block.spread(torch.from_numpy(np.abs(vector) ** 2).to(block.free))
    by_node = {name: part.flatten(1).sum(dim=1) for name, part in jacobian.values(squares).items()}
    total = float(torch.stack(list(by_node.values())).sum())
    by_image: Tensor = torch.stack(list(by_node.values())).sum(dim=0)
    shares = {name: float(part.sum()) / total if total else 0.0 for name, part in by_node.items()}
    return Mode(eigenvalue, shares, int(by_image.argmax()))
