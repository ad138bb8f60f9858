"""Linear resizing and a transposed convolution of kernel 3: first the kernel's products, then the resizing.

Each weight of the kernel meets each pixel of the small map once, and not each of those that it becomes. What
is resized, shifted and added up are the products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def taps(size: int, target: int) -> Tensor:
    """What each tap of the transposed convolution reads along one dimension: (3 taps, target, size), float64.

    ``taps(size, target)[k] @ x`` is x resized to ``target`` and moved by ``k - 1``, with zeros moving in.
    """
    identity = torch.eye(size, dtype=torch.float64)
    resizing = F.interpolate(identity[None], size=target, mode="linear", align_corners=False)[0].T
    around = F.pad(resizing, (0, 0, 1, 1))
    return torch.stack([around[2 - tap : 2 - tap + target] for tap in range(3)])


def by_products(x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor:
    """The transposed convolution, of padding 1, of the resized map.

    Args:
        x: (batch, channels, height, width).
        weight: (channels, target channels, 3, 3), as `nn.ConvTranspose2d` holds it.
        bias: (target channels,), or None.
        rows: (target height, 3 taps x height), from `taps`.
        columns: (target width, 3 taps x width), from `taps`.

    Returns:
        (batch, target channels, target height, target width).
    """
    batch, _, height, width = x.shape
    maps = batch * weight.shape[1]
    products = torch.matmul(weight.flatten(1).t(), x.flatten(2)).view(maps, 3, 3, height, width)
    resized = torch.matmul(rows, products.transpose(1, 2).reshape(3 * maps, 3 * height, width))
    resized = resized.view(maps, 3, len(rows), width).transpose(1, 2).reshape(-1, 3 * width)
    predicted = torch.matmul(resized, columns.t()).view(batch, -1, len(rows), len(columns))
    return predicted if bias is None else predicted + bias[:, None, None]


def volume_by_products(x: Tensor, weight: Tensor, bias: Tensor | None, along: Sequence[Tensor]) -> Tensor:
    """The same of a volume, resized trilinearly.

    Args:
        x: (batch, channels, depth, height, width).
        weight: (channels, target channels, 3, 3, 3), as `nn.ConvTranspose3d` holds it.
        bias: (target channels,), or None.
        along: Of each axis (target size, 3 taps, size), from `taps`.

    Returns:
        (batch, target channels, target depth, target height, target width).
    """
    sizes, targets = x.shape[2:], [len(matrix) for matrix in along]
    made = torch.matmul(weight.flatten(1).t(), x.flatten(2)).view(-1, *[3] * len(sizes), *sizes)
    for left, matrix in zip(range(len(along), 0, -1), along, strict=True):  # (maps, *taps, *sizes, *targets)
        made = torch.tensordot(made, matrix, dims=([1, 1 + left], [1, 2]))
    predicted = made.view(len(x), -1, *targets)
    return predicted if bias is None else predicted + bias[:, None, None, None]


def share_of_multiplications(channels: int, source: Sequence[int], target: Sequence[int]) -> float:
    """Multiplications by products, of those of the transposed convolution of the resized map or volume."""
    taps = 3 ** len(source)
    made: int = taps * channels * math.prod(source)
    for axis, size in enumerate(source):
        others = 3 ** (len(source) - 1 - axis) * math.prod(source[axis + 1 :]) * math.prod(target[:axis])
        made += target[axis] * 3 * size * others
    whole: int = taps * channels * math.prod(target)
    return made / whole
