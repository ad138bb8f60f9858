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
    11: (5 / 8, 1.0, 13 / 8),
}
"""By multiplications: the real points of the interpolation, each with its negative, besides 0 and infinity.

A tile has as many values, but that of 11 has ten: its points are i and -i, too, which take three
multiplications together. Of the points with small denominators these gave the smallest errors in float32:
1e-6, 7e-6, 5e-5 and 4e-6 of the largest result. Larger tiles lose more digits, or take more memory, than they
save time."""
ERROR = {6: 1e-6, 8: 7e-6, 10: 5e-5, 11: 4e-6}
"""These errors."""


@dataclass(frozen=True)
class Algorithm:
    """Correlation of ``tile`` inputs ``d`` with ``taps`` weights ``g`` in fewer multiplications.

    ``output @ ((kernel @ g) * (input @ d))`` are its ``tile - taps + 1`` results ``sum_t g[t] d[j + t]``.

    Attributes:
        output: (tile - taps + 1, multiplications).
        kernel: (multiplications, taps).
        input: (multiplications, tile).
    """

    output: Tensor
    kernel: Tensor
    input: Tensor


def tile_of(multiplications: int) -> int:
    """Values of a tile."""
    return multiplications - _has_pair(multiplications)


def toom_cook(multiplications: int, taps: int) -> Algorithm:
    """The algorithm that takes so many multiplications, in float64.

    It is the transpose of the product of two polynomials, evaluated at the points, multiplied value by
    value and interpolated. At i and -i the values are conjugate: one complex number, (a + bi)(c + di), is
    made by the three products ac, bd and (a + b)(c + d). The rows are scaled so that those of ``input`` and
    ``output`` have length 1.

    Args:
        multiplications: One of `POINTS`.
        taps: Number of weights, fewer than a tile's values.
    """
    count, tile = multiplications, tile_of(multiplications)
    factors, value = torch.eye(tile, dtype=torch.float64), torch.eye(tile, dtype=torch.float64)
    if _has_pair(count):  # the last two values are a and b; of the product, what the three products give
        factors = torch.cat([factors, factors[-2:].sum(0, keepdim=True)])
        value = torch.cat([value, torch.zeros(tile, 1, dtype=torch.float64)], dim=1)
        value[-2:, -3:] = torch.tensor([[1.0, -1.0, 0.0], [-1.0, -1.0, 1.0]], dtype=torch.float64)
    kernel, output = factors @ _values(count, taps), factors @ _values(count, tile - taps + 1)
    interpolate = (torch.linalg.inv(_values(count, tile)) @ value).T
    output_length = output.norm(dim=1, keepdim=True)
    input_length = interpolate.norm(dim=1, keepdim=True)
    return Algorithm(
        (output / output_length).T.contiguous(),
        kernel * output_length * input_length,
        interpolate / input_length,
    )


def _has_pair(multiplications: int) -> bool:
    """Whether i and -i are among the points."""
    return 2 * len(POINTS[multiplications]) + 2 < multiplications


def _values(multiplications: int, count: int) -> Tensor:
    """How ``count`` coefficients give a polynomial's values: at the points, at infinity, at i (two rows)."""
    points = [0.0, *(sign * point for point in POINTS[multiplications] for sign in (1, -1))]
    powers = torch.tensor(points, dtype=torch.float64)[:, None] ** torch.arange(count)
    highest = torch.zeros(1, count, dtype=torch.float64)
    highest[0, -1] = 1
    if not _has_pair(multiplications):
        return torch.cat([powers, highest])
    turns = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    return torch.cat([powers, highest, turns[:, torch.arange(count) % 4]])
