"""The largest eigenvalue of a linear map of which only the products with vectors are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SMALL = 1e-12
"""Share of a product's norm below which what is left of it is rounding."""


def largest_eigenvalue(
    apply: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    size: int = 24,
    restarts: int = 20,
    tolerance: float = 1e-3,
) -> complex:
    """The eigenvalue of largest modulus, by Arnoldi iteration (Saad 2011, algorithm 6.2) with restarts.

    A restart begins at the real part of the Ritz vector found so far. In as many dimensions as ``size`` the
    result is exact to rounding; for a symmetric map the iteration is Lanczos's.

    Args:
        apply: The product of the map (or its transpose) with a vector (n,).
        start: First vector (n,): random, so that it has a part along every eigenvector.
        size: Largest dimension of the Krylov space, and so vectors that are kept.
        restarts: Spaces that are built at most.
        tolerance: Of the residual, as a share of the eigenvalue.

    Returns:
        The eigenvalue; of a pair of complex ones either. NaN where a product is not finite.
    """
    found = 0j
    for _ in range(restarts):
        basis, hessenberg = _arnoldi(apply, start, min(size, start.numel()))
        if not bool(torch.isfinite(hessenberg).all()):
            return complex("nan")
        inner = hessenberg.shape[1]
        values, vectors = torch.linalg.eig(hessenberg[:inner])
        best = int(values.abs().argmax())
        found = complex(values[best])
        residual = abs(float(hessenberg[inner, inner - 1])) * abs(complex(vectors[inner - 1, best]))
        if residual <= tolerance * abs(found):
            break
        weights = vectors[:, best].real.to(start)
        start = torch.stack(basis[:inner], dim=1) @ weights
    return found


def _arnoldi(apply: Callable[[Tensor], Tensor], start: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
    """An orthonormal basis of the Krylov space, and the map in it: (inner + 1, inner), in float64."""
    basis = [start / start.norm()]
    columns = torch.zeros(size + 1, size, dtype=torch.float64)
    for place in range(size):
        product = apply(basis[place])
        whole = float(product.norm())
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            for row, vector in enumerate(basis):
                share = torch.dot(vector, product)
                product = product - share * vector
                columns[row, place] += float(share)
        left = float(product.norm())
        if not left > SMALL * whole or not whole < float("inf"):
            columns[: place + 1, place] += 0.0 if whole < float("inf") else float("nan")
            return basis, columns[: place + 2, : place + 1]
        columns[place + 1, place] = left
        basis.append(product / left)
    return basis, columns
