"""Linear upsampling and a transposed convolution of kernel 3, in the way that takes the least."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcgraph.predictors.fast.doubling import READS, phased, phases
from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.resizing import (
    by_products,
    share_of_multiplications,
    taps,
    volume_by_products,
)


class UpsampledConvTranspose2d(nn.Sequential):
    """`nn.Upsample(bilinear)`, then `nn.ConvTranspose2d(kernel_size=3, padding=1)`.

    The upsampled map, the largest tensor of such a prediction, is not made where that saves something: the
    result is computed by products where that takes less than half of the multiplications, or else by phases
    where the map doubles and the convolution narrows it. It is the same up to rounding.

    Args:
        upsample: To a size, bilinear, ``align_corners=False``.
        convolution: With a kernel of 3, a padding of 1, and no stride, dilation or groups.
        grid: Height and width of the maps that it will be given; others are computed layer by layer.
    """

    def __init__(self, upsample: nn.Upsample, convolution: nn.ConvTranspose2d, grid: tuple[int, int]) -> None:
        super().__init__(upsample, convolution)
        height, width = upsample.size  # type: ignore[misc]
        self.grid = grid
        self.rows: Tensor | None
        self.columns: Tensor | None
        self.reads: Tensor | None
        for name, matrix in self._matrices(convolution, height, width).items():
            kept = None if matrix is None else matrix.to(convolution.weight)
            self.register_buffer(name, kept, persistent=False)

    def _matrices(self, convolution: nn.ConvTranspose2d, height: int, width: int) -> dict[str, Tensor | None]:
        """What the chosen way needs besides the weights."""
        rows = columns = reads = None
        if share_of_multiplications(convolution.in_channels, self.grid, (height, width)) < 0.5:
            rows = taps(self.grid[0], height).transpose(0, 1).flatten(1)
            columns = taps(self.grid[1], width).transpose(0, 1).flatten(1)
        elif self.doubles and min(self.grid) > 1 and convolution.in_channels >= 4 * convolution.out_channels:
            reads = torch.tensor(READS)
        return {"rows": rows, "columns": columns, "reads": reads}

    @property
    def doubles(self) -> bool:
        """Whether both sides of the map double."""
        upsample = self[0]
        assert isinstance(upsample, nn.Upsample)
        return upsample.size == (2 * self.grid[0], 2 * self.grid[1])

    def forward(self, x: Tensor) -> Tensor:
        """Predict (batch, target channels, height, width) from (batch, channels, height, width)."""
        upsample, convolution = self
        assert isinstance(convolution, nn.ConvTranspose2d)
        if x.shape[2:] == self.grid and is_plain(upsample, convolution):
            weight, bias = convolution.weight, convolution.bias
            if self.rows is not None and self.columns is not None:
                return by_products(x, weight, bias, self.rows, self.columns)
            if self.reads is not None:
                return phased(x, phases(weight, bias, self.reads))
        predicted: Tensor = convolution(upsample(x))
        return predicted


class UpsampledConvTranspose3d(nn.Sequential):
    """`nn.Upsample(trilinear)`, then `nn.ConvTranspose3d(kernel_size=3, padding=1)`.

    By products where that takes less than half of the multiplications. It is the same up to rounding.

    Args:
        upsample: To a size, trilinear, ``align_corners=False``.
        convolution: With a kernel of 3, a padding of 1, and no stride, dilation or groups.
        grid: Depth, height and width of the volumes that it will be given; others go layer by layer.
    """

    def __init__(
        self, upsample: nn.Upsample, convolution: nn.ConvTranspose3d, grid: tuple[int, int, int]
    ) -> None:
        super().__init__(upsample, convolution)
        target: tuple[int, ...] = upsample.size  # type: ignore[assignment]
        self.grid = grid
        self.by_products = share_of_multiplications(convolution.in_channels, grid, target) < 0.5
        for axis, sizes in enumerate(zip(grid, target, strict=True)):
            matrix = taps(*sizes).transpose(0, 1).to(convolution.weight) if self.by_products else None
            self.register_buffer(f"along{axis}", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Predict (batch, target channels, *target grid) from (batch, channels, *grid)."""
        upsample, convolution = self
        if self.by_products and x.shape[2:] == self.grid and is_plain(upsample, convolution):
            along = [getattr(self, f"along{axis}") for axis in range(3)]
            assert isinstance(convolution, nn.ConvTranspose3d)
            return volume_by_products(x, convolution.weight, convolution.bias, along)
        predicted: Tensor = convolution(upsample(x))
        return predicted
