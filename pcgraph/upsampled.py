"""Bilinear upsampling by two and a 3 x 3 transposed convolution, as one convolution of the small map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UpsampledConvTranspose2d(nn.Sequential):
    """`nn.Upsample(bilinear)`, then `nn.ConvTranspose2d(kernel_size=3, padding=1)`.

    Where the map doubles and the convolution narrows it, both become one convolution of the small map that
    gives the four pixels of each upsampled one (its phases) as channels. The upsampled map, the largest
    tensor of such a prediction, is never made. The result is the same up to rounding.

    Args:
        upsample: To a size, bilinear, ``align_corners=False``.
        convolution: With a kernel of 3, a padding of 1, and no stride, dilation or groups.
    """

    def __init__(self, upsample: nn.Upsample, convolution: nn.ConvTranspose2d) -> None:
        super().__init__(upsample, convolution)
        self.reads: Tensor
        self.register_buffer("reads", torch.tensor(READS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Predict (batch, target channels, height, width) from (batch, channels, height, width)."""
        upsample, convolution = self
        assert isinstance(upsample, nn.Upsample)
        assert isinstance(convolution, nn.ConvTranspose2d)
        doubles = upsample.size == (2 * x.shape[2], 2 * x.shape[3])
        narrows = convolution.in_channels >= 4 * convolution.out_channels
        if doubles and narrows:
            return phased(x, convolution.weight, convolution.bias, self.reads)
        predicted: Tensor = convolution(upsample(x))
        return predicted


READS = (
    ((0.75, 0.25, 0.0), (0.25, 0.75, 0.75), (0.0, 0.0, 0.25)),
    ((0.25, 0.0, 0.0), (0.75, 0.75, 0.25), (0.0, 0.25, 0.75)),
)
"""How a doubled row reads a row: [phase][i - 1, i, i + 1][2 i + phase - 1, 2 i + phase, 2 i + phase + 1]."""


def phased(x: Tensor, weight: Tensor, bias: Tensor | None, reads: Tensor) -> Tensor:
    """Transposed convolution of the doubled map, computed on the map itself.

    Args:
        x: (batch, channels, height, width).
        weight: (channels, target channels, 3, 3), as `nn.ConvTranspose2d` holds it.
        bias: (target channels,), or None.
        reads: `READS`.

    Returns:
        (batch, target channels, 2 height, 2 width).
    """
    kernel = weight.flip(2, 3).transpose(0, 1)  # of the plain convolution that it is
    phases = torch.einsum("alh,bmw,oihw->oabilm", reads, reads, kernel).reshape(-1, x.shape[1], 3, 3)
    shared = None if bias is None else bias.repeat_interleave(4)
    predicted = F.pixel_shuffle(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), phases, shared), 2)
    # Up to here the doubled map goes on outside as its border is; the transposed convolution has zeros there.
    for place, tap in ((0, 0), (-1, 2)):
        row = F.pad(_doubled(x[:, :, place]), (1, 1), mode="replicate")
        predicted[:, :, place] -= F.conv1d(row, kernel[:, :, tap])
        column = _doubled(x[:, :, :, place])
        predicted[:, :, :, place] -= F.conv1d(column, kernel[:, :, :, tap], padding=1)
    return predicted


def _doubled(line: Tensor) -> Tensor:
    return F.interpolate(line, scale_factor=2.0, mode="linear", align_corners=False)
