"""Toom-Cook algorithms: short correlations with fewer multiplications than their definition has.

Winograd, "Arithmetic complexity of computations" (1980), chapter 5; Lavin and Gray, "Fast algorithms for
convolutional neural networks" (2016), who nest one in itself for two dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

POINTS = {
    6: (5 / 8, 3 / 2),
    8: (1 / 2, 1.0, 2.0),
    10: (7 / 16, 13 / 16, 5 / 4, 9 / 4),
}
"""By tile: the points of the interpolation, each with its negative, besides 0 and infinity.

Of the points with small denominators these gave the smallest errors in float32: 1e-6, 5e-6 and 2e-5 of the
largest result. Larger tiles lose more digits than they save time."""


@dataclass(frozen=True)
class Algorithm:
    """Correlation of ``tile`` inputs ``d`` with ``taps`` weights ``g``, as ``tile`` multiplications.

    ``output @ ((kernel @ g) * (input @ d))`` are its ``tile - taps + 1`` results ``sum_t g[t] d[j + t]``.

    Attributes:
        output: (tile - taps + 1, tile).
        kernel: (tile, taps).
        input: (tile, tile).
    """

    output: Tensor
    kernel: Tensor
    input: Tensor


def toom_cook(tile: int, taps: int) -> Algorithm:
    """The algorithm for a tile, in float64.

    It is the transpose of the product of two polynomials, evaluated at the points, multiplied value by
    value and interpolated. The rows are scaled so that those of ``input`` and ``output`` have length 1.

    Args:
        tile: One of `POINTS`.
        taps: Number of weights, fewer than ``tile``.
    """
    points = [0.0, *(sign * point for point in POINTS[tile] for sign in (1, -1))]
    kernel, output = _values(points, taps), _values(points, tile - taps + 1)
    interpolate = torch.linalg.inv(_values(points, tile)).T
    output_length = output.norm(dim=1, keepdim=True)
    input_length = interpolate.norm(dim=1, keepdim=True)
    return Algorithm(
        (output / output_length).T.contiguous(),
        kernel * output_length * input_length,
        interpolate / input_length,
    )


def _values(points: list[float], count: int) -> Tensor:
    """How ``count`` coefficients give a polynomial's values at the points and at infinity."""
    powers = torch.tensor(points, dtype=torch.float64)[:, None] ** torch.arange(count)
    highest = torch.zeros(1, count, dtype=torch.float64)
    highest[0, -1] = 1
    return torch.cat([powers, highest])
