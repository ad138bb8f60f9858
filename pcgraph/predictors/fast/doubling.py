"""Bilinear doubling and a 3 x 3 transposed convolution as one convolution of the small map."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

READS = (
    ((0.75, 0.25, 0.0), (0.25, 0.75, 0.75), (0.0, 0.0, 0.25)),
    ((0.25, 0.0, 0.0), (0.75, 0.75, 0.25), (0.0, 0.25, 0.75)),
)
"""How a doubled row reads a row: [phase][i - 1, i, i + 1][2 i + phase - 1, 2 i + phase, 2 i + phase + 1]."""


class Phases(NamedTuple):
    """The kernels that give the four phases of each pixel; the borders' are added to what `pixels` gives.

    Attributes:
        pixels: (4 target channels, channels, 3, 3): of all pixels, with zeros around the map.
        rows: (2 x 4 target channels, channels, 3): of the first and of the last row.
        columns: (2 x 4 target channels, channels, 3): of the first and of the last column.
        corners: (2, 2, 4 target channels, channels): of the four corners, row by row.
        bias: (4 target channels,), or None.
    """

    pixels: Tensor
    rows: Tensor
    columns: Tensor
    corners: Tensor
    bias: Tensor | None


def phases(weight: Tensor, bias: Tensor | None, reads: Tensor) -> Phases:
    """The kernels for a transposed convolution of the doubled map.

    The doubling goes on outside of the map as its border is, and the transposed convolution finds zeros
    outside of the doubled map, while `Phases.pixels` finds zeros outside of the map. What the first row
    misses so is a function of the first row alone, and so for each border; see `border_reads`.

    Args:
        weight: (channels, target channels, 3, 3), as `nn.ConvTranspose2d` holds it.
        bias: (target channels,), or None.
        reads: `READS`.
    """
    kernel = weight.flip(2, 3).transpose(0, 1)  # of the plain convolution that it is
    ends = border_reads(reads)
    return Phases(
        torch.einsum("alh,bmw,oihw->oabilm", reads, reads, kernel)
        .flatten(0, 2)
        .contiguous(memory_format=torch.channels_last),
        torch.einsum("eah,bmw,oihw->eoabim", ends, reads, kernel).flatten(0, 3),
        torch.einsum("alh,ebw,oihw->eoabil", reads, ends, kernel).flatten(0, 3),
        torch.einsum("eah,fbw,oihw->efoabi", ends, ends, kernel).flatten(2, 4),
        None if bias is None else bias.repeat_interleave(4),
    )


def border_reads(reads: Tensor) -> Tensor:
    """What the first and the last row have to read of themselves besides `READS`: [end][phase][tap].

    They take the part of the row that is not there; but for the tap that leaves the doubled map, which
    must read nothing at all.
    """
    first, last = reads[:, 0].clone(), reads[:, 2].clone()
    first[0, 0] = -reads[0, 1, 0]
    last[1, 2] = -reads[1, 1, 2]
    return torch.stack([first, last])


def phased(x: Tensor, kernels: Phases) -> Tensor:
    """Transposed convolution of the doubled map, computed on the map itself.

    Args:
        x: (batch, channels, height, width), of two rows and two columns at least.
        kernels: From `phases`.

    Returns:
        (batch, target channels, 2 height, 2 width).
    """
    down, right = x.shape[2] - 1, x.shape[3] - 1
    made = F.conv2d(x, kernels.pixels, kernels.bias, padding=1)
    pair = (len(x), 2, len(kernels.pixels), -1)  # the first and the last
    rows = x[:, :, ::down].transpose(1, 2).flatten(1, 2)
    rows = F.conv1d(rows, kernels.rows, padding=1, groups=2).reshape(pair).transpose(1, 2)
    columns = x[:, :, :, ::right].permute(0, 3, 1, 2).flatten(1, 2)
    columns = F.conv1d(columns, kernels.columns, padding=1, groups=2).reshape(pair)
    columns = columns.permute(0, 2, 3, 1)
    corners = torch.einsum("efoc,bcef->boef", kernels.corners, x[:, :, ::down, ::right])
    rows = torch.slice_scatter(rows, rows[..., ::right] + corners, 3, step=right)
    made = torch.slice_scatter(made, made[:, :, ::down] + rows, 2, step=down)
    made = torch.slice_scatter(made, made[..., ::right] + columns, 3, step=right)
    return F.pixel_shuffle(made, 2)
