"""The largest eigenvalue of a linear map of which only the products with vectors are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SMALL = 1e-12
"""Share of a product's norm below which what is left of it is rounding."""
LEAST = 8
"""Vectors before a residual is trusted: a start may have next to nothing of the eigenvector."""


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
        tolerance: Of the residual, as a share of the eigenvalue; the first that is as small ends it.

    Returns:
        The eigenvalue; of a pair of complex ones either. NaN where a product is not finite.
    """
    found = 0j
    for _ in range(restarts):
        space = _Krylov(start, min(size, start.numel()))
        while space.grows:
            space.extend(apply)
            if not space.finite:
                return complex("nan")
            found, vector, residual = space.best()
            settled = space.inner >= min(LEAST, size) or not space.grows
            if settled and residual <= tolerance * abs(found):
                return found
        start = torch.stack(space.basis[: len(vector)], dim=1) @ vector.real.to(start)
    return found


class _Krylov:
    """An orthonormal basis of a Krylov space, and the map in it: (inner + 1, inner), in float64."""

    def __init__(self, start: Tensor, size: int) -> None:
        self.size = size
        self.inner = 0
        self.basis = [start / start.norm()]
        self.map = torch.zeros(size + 1, size, dtype=torch.float64)

    @property
    def grows(self) -> bool:
        """Whether there is another vector to apply the map to."""
        return self.inner < min(self.size, len(self.basis))

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        return bool(torch.isfinite(self.map).all())

    def extend(self, apply: Callable[[Tensor], Tensor]) -> None:
        """By the product of the last vector; the space is complete where nothing new is in it."""
        place, self.inner = self.inner, self.inner + 1
        product = apply(self.basis[place])
        whole = float(product.norm())
        if not whole < float("inf"):
            self.map[place, place] = float("nan")
            return
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            for row, vector in enumerate(self.basis):
                share = torch.dot(vector, product)
                product = product - share * vector
                self.map[row, place] += float(share)
        left = float(product.norm())
        if left > SMALL * whole:
            self.map[self.inner, place] = left
            self.basis.append(product / left)

    def best(self) -> tuple[complex, Tensor, float]:
        """The Ritz value of largest modulus, its vector in the basis, and the residual's norm."""
        values, vectors = torch.linalg.eig(self.map[: self.inner, : self.inner])
        place = int(values.abs().argmax())
        left = abs(float(self.map[self.inner, self.inner - 1]))
        vector = vectors[:, place]
        return complex(values[place]), vector, left * abs(complex(vector[-1]))
