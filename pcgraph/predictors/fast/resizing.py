"""Bilinear resizing and a 3 x 3 transposed convolution: first the kernel's products, then the resizing.

Each weight of the kernel meets each pixel of the small map once, and not each of those that it becomes. What
is resized, shifted and added up are the products.
"""

from __future__ import annotations

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


def share_of_multiplications(channels: int, source: tuple[int, int], target: tuple[int, int]) -> float:
    """Multiplications of `by_products`, of those of the transposed convolution of the resized map."""
    (height, width), (target_height, target_width) = source, target
    products = 9 * channels * height * width
    resizing = 3 * target_height * 3 * height * width + target_height * target_width * 3 * width
    return (products + resizing) / (9 * channels * target_height * target_width)
