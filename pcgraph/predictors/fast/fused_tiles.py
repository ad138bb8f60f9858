"""The computation of `tiles` as a compiler joins it best: sums over maps whose channels lie side by side.

The transforms are written as sums of products, which become loops with what comes before and after; as
products of matrices, they would be calls. The large products of matrices stay calls.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgraph.predictors.fast.tiles import Layout, Weights, ends, margins

BLOCK = 2**27
"""Bytes of an intermediate result; more than in `tiles`, as each block is compiled."""


def predict(x: Tensor, weights: Weights, layout: Layout) -> Tensor:
    """See `tiles.predict`."""
    return torch.cat([_predicted(part, weights, layout) for part in _parts(x, weights, layout)])


def pull(cotangent: Tensor, weights: Weights, layout: Layout) -> Tensor:
    """See `tiles.pull`."""
    return torch.cat([_pulled(part, weights, layout) for part in _parts(cotangent, weights, layout)])


def _predicted(x: Tensor, weights: Weights, layout: Layout) -> Tensor:
    side, tile, step, stride = weights.algorithm, layout.tile, layout.step, layout.stride
    high, wide = layout.axes
    channels = x.shape[1]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *margins(wide, layout), *margins(high, layout)))
    rows = _transformed(weights.input, padded.unfold(1, tile, step).movedim(-1, 0), 0)
    values = _transformed(weights.input, rows.unfold(3, tile, step).movedim(-1, 1), 1)
    products = torch.bmm(values.reshape(side**2, -1, channels), weights.product.mT)
    products = products.view(side, side, *products.shape[1:])
    phases = _transformed(weights.output, _transformed(weights.output, products, 0), 1)
    phases = phases.view(step, step, len(x), high.tiles, wide.tiles, -1, stride, stride, weights.group)
    whole = phases.permute(2, 3, 0, 6, 4, 1, 7, 5, 8)
    whole = whole.reshape(len(x), high.tiles * step * stride, wide.tiles * step * stride, -1)
    inside = slice(high.crop, high.crop + high.result), slice(wide.crop, wide.crop + wide.result)
    return whole[:, *inside].permute(0, 3, 1, 2)


def _pulled(cotangent: Tensor, weights: Weights, layout: Layout) -> Tensor:
    side, step, stride = weights.algorithm, layout.step, layout.stride
    high, wide = layout.axes
    batch = len(cotangent)
    padded = F.pad(cotangent.permute(0, 2, 3, 1), (0, 0, *ends(wide, layout), *ends(high, layout)))
    phases = padded.view(batch, high.tiles, step, stride, wide.tiles, step, stride, -1, weights.group)
    phases = phases.permute(2, 5, 0, 1, 4, 7, 3, 6, 8)
    values = _transformed(weights.output.T, _transformed(weights.output.T, phases, 0), 1)
    products = torch.bmm(values.reshape(side**2, -1, weights.product.shape[1]), weights.product)
    products = products.view(side, side, batch, high.tiles, wide.tiles, -1)
    rows = _overlapped(weights.input.T, products, 1, 4, step)
    whole = _overlapped(weights.input.T, rows, 0, 2, step)
    cut = [-margin for margin in (*margins(wide, layout), *margins(high, layout))]
    return F.pad(whole, (0, 0, *cut)).permute(0, 3, 1, 2)


def _parts(x: Tensor, weights: Weights, layout: Layout) -> tuple[Tensor, ...]:
    """The images whose intermediate results fit into a block."""
    high, wide = layout.axes
    values = weights.algorithm**2 * high.tiles * wide.tiles * max(weights.product.shape[1:])
    return torch.split(x, max(1, BLOCK // (values * x.element_size())))


def _transformed(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    """A matrix applied along a dimension."""
    shape = [1] * dim + list(matrix.shape) + [1] * (x.dim() - dim - 1)
    return (matrix.view(shape) * x.unsqueeze(dim)).sum(dim + 1)


def _overlapped(matrix: Tensor, x: Tensor, dim: int, tiles: int, step: int) -> Tensor:
    """A matrix applied along ``dim`` gives tiles, whose values are added up where they overlap.

    Args:
        matrix: (values of a tile, length of ``dim``).
        x: What is transformed.
        dim: Along which; it is left out of the result.
        tiles: The dimension, behind ``dim``, that counts the tiles; in the result it counts values.
        step: How far tiles lie apart.
    """
    times = -(-len(matrix) // step)
    parts = F.pad(matrix, (0, 0, 0, times * step - len(matrix))).view(times, step, -1).flip(0).transpose(0, 1)
    padded = F.pad(x, (0, 0) * (x.dim() - tiles - 1) + (times - 1, times - 1))
    windows = padded.unfold(tiles, times, 1).movedim(dim, -1).unsqueeze(tiles)
    parts = parts.reshape(step, *[1] * (windows.dim() - tiles - 3), times, -1)
    whole = (windows * parts).sum((-2, -1)).flatten(tiles - 1, tiles)
    return whole.narrow(tiles - 1, 0, (x.shape[tiles] - 1) * step + len(matrix))
