"""Large kernels in tiles for one run, without measuring: where that saves more than it takes to begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d
from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.fast.tile_transforms import ERROR
from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d

KERNEL = 7
"""Kernels from here on may be computed in tiles."""
EXACT = 1e-5
"""Largest error of the tiles, relative to a layer's largest value."""
MEMORY = 10**9
"""Bytes that the transformed weights of a run may take together."""
MARGIN = 1.3
"""How many times what the tiles take must be saved; more than the estimate is off."""
MAKE, READ, VALUE = 500, 20, 150
"""What it takes to transform a weight (twice that, as its memory is to pay off, too), to read it, and to
transform a value of a map there and back; in the multiply-adds that large products of matrices make in that
time. Measured on two cores."""


@dataclass
class Budget:
    """What a run has for tiles.

    Attributes:
        steps: That it makes.
        bytes: That its transformed weights may still take.
    """

    steps: int
    bytes: int = MEMORY


def has_large_kernel(predictor: nn.Module) -> bool:
    """Whether one of its layers may be computed in tiles."""
    layers = predictor if type(predictor) is nn.Sequential else (predictor,)
    return any(isinstance(one, nn.ConvTranspose2d) and min(one.kernel_size) >= KERNEL for one in layers)


def in_tiles(predictor: nn.Module, budget: Budget) -> nn.Module | None:
    """The predictor with its large transposed convolutions in tiles where they pay off; None without any.

    It shares all weights with the predictor, and takes them for constants, whether they require a gradient or
    not.

    Args:
        predictor: As `build` makes it: a layer, or layers in a row.
        budget: Of the run; what the tiles take is taken off.
    """
    if not is_plain(*predictor.modules()):
        return None
    if type(predictor) is nn.Sequential:
        layers = [_in_tiles(layer, budget) for layer in predictor]
        if any(layers):
            pairs = zip(predictor, layers, strict=True)
            return nn.Sequential(*(layer if tiled is None else tiled for layer, tiled in pairs))
        return None
    return _in_tiles(predictor, budget)


def _in_tiles(layer: nn.Module, budget: Budget) -> nn.Module | None:
    chosen = isinstance(layer, TiledConvTranspose2d) and layer.tiles is not None
    if chosen or type(layer) not in (nn.ConvTranspose2d, PartedConvTranspose2d, TiledConvTranspose2d):
        return None
    if not has_large_kernel(layer):
        return None
    assert isinstance(layer, nn.ConvTranspose2d)
    weight = layer.weight
    usual = type(weight) is nn.Parameter and not isinstance(weight, FakeTensor) and not weight.is_inference()
    if not usual or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    tiled = _ForOneRun.like(layer)
    tiled.tiles, tiled.budget = {}, budget
    return tiled if tiled.possible_tiles else None


class _ForOneRun(TiledConvTranspose2d):
    """Decides about each shape when it first comes, by estimates."""

    budget: Budget

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See `nn.ConvTranspose2d`."""
        assert self.tiles is not None
        shape = tuple(input.shape)
        if shape not in self.tiles:
            self.tiles[shape] = tile = best_tile(self, shape, self.budget)
            self.budget.bytes -= self.transformed_bytes(tile) if tile else 0
        return super().forward(input, output_size)

    @property
    def is_constant(self) -> bool:
        return True


def best_tile(layer: TiledConvTranspose2d, shape: Sequence[int], budget: Budget) -> int | None:
    """The tiles that save the most in a run, transforming the weights included; None if none do.

    It does not depend on the number of images, so that the parts of a batch are computed alike.

    Args:
        layer: The layer.
        shape: Of its input.
        budget: Of the run.
    """
    height, width = shape[2:]
    multiplied = layer.in_channels * layer.out_channels
    direct = layer.kernel_size[0] ** 2 * multiplied * height * width
    best, most = None, 0.0
    for tile in layer.possible_tiles:
        weights, made = tile**2 * layer.stride[0] ** 2 * multiplied, layer.transformed_bytes(tile)
        high, wide = layer.layout(shape, tile).axes
        count = high.tiles * wide.tiles
        values = tile**2 * count * (layer.in_channels + layer.stride[0] ** 2 * layer.out_channels)
        tiled = weights * count + READ * weights + VALUE * values
        saved = 2 * budget.steps * (direct - MARGIN * tiled) - MARGIN * MAKE * weights
        if ERROR[tile] <= EXACT and made <= budget.bytes and saved > most:
            best, most = tile, saved
    return best
