"""Transposed convolutions with large kernels, in parts of their input's channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGE = 2**25
"""Bytes of a weight up to which a convolution is computed in one."""


class PartedConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`, in parts where the library's copy of its weight would take much memory.

    On a processor the weight is rearranged at each call, which takes as much memory as the weight: 200 MB
    for 14 x 14 kernels between 512 channels. The parts' results are added up. They are the same up to
    rounding.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See `nn.ConvTranspose2d`."""
        parts = -(-self.weight.nbytes // LARGE)
        on_processor = input.device.type == "cpu" and not torch.compiler.is_compiling()
        if parts == 1 or not on_processor or self.groups > 1 or output_size is not None:
            return super().forward(input, output_size)
        size = -(-self.in_channels // parts)
        total: Tensor | None = None
        for one, weight in zip(torch.split(input, size, dim=1), torch.split(self.weight, size), strict=True):
            bias = self.bias if total is None else None
            part = nn.functional.conv_transpose2d(
                one,
                weight,
                bias,
                self.stride,
                self.padding,  # type: ignore[arg-type]
                self.output_padding,
                1,
                self.dilation,
            )
            total = part if total is None else total + part
        assert total is not None
        return total


def part_large(module: nn.Module) -> None:
    """Let the large transposed convolutions of a predictor be computed in parts; in place."""
    for layer in module.modules():
        if type(layer) is nn.ConvTranspose2d and layer.weight.nbytes > LARGE:
            layer.__class__ = PartedConvTranspose2d
