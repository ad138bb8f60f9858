"""`nn.ConvTranspose2d` with the choice to compute it in tiles."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from pcgraph.predictors.fast import fused_tiles, tiles
from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d
from pcgraph.predictors.fast.tile_transforms import POINTS, tile_of
from pcgraph.predictors.fast.tiles import Layout, Weights


class TiledConvTranspose2d(PartedConvTranspose2d):
    """A transposed convolution that is computed in tiles where that was chosen, and directly elsewhere.

    Parameters and state dict are those of `nn.ConvTranspose2d`. Weights that require a gradient and sizes for
    which nothing was chosen are computed directly, and so are compiled steps, unless `lent_tiles` replaces
    the layer.

    The transformed weights are kept from call to call and made anew when the weight has changed, moved or
    become another tensor. PyTorch counts the changes of a tensor; those made behind its back, in
    ``weight.data`` or in a NumPy view, are not seen. The transformed weights are neither saved nor copied.

    Attributes:
        tiles: One of `POINTS` by shape of the input; what is not in it, or None, is computed directly. Where
            there is no mapping nobody has chosen, and a run may do so for itself; see `tiled_run.py`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tiles: dict[tuple[int, ...], int | None] | None = None
        self._transformed: dict[int, tuple[_Version, Weights]] = {}

    @classmethod
    def like(cls, layer: nn.ConvTranspose2d) -> Self:
        """The same layer, with the same parameters."""
        same = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
            layer.bias is not None,
            layer.dilation,
            layer.padding_mode,
            device="meta",
        )
        same.weight, same.bias = layer.weight, layer.bias
        return same.train(layer.training)

    @property
    def possible_tiles(self) -> tuple[int, ...]:
        """The tiles that the layer can be computed in, none of which need be faster."""
        (kernel, width), (stride, across) = self.kernel_size, self.stride
        if self.groups > 1 or self.dilation != (1, 1) or kernel != width or stride != across:
            return ()
        taps = -(-kernel // stride)
        return tuple(tile for tile in POINTS if 2 <= taps < tile_of(tile))

    def layout(self, shape: Sequence[int], tile: int) -> Layout:
        """How the tiles lie on an input of this shape."""
        return Layout(
            self.kernel_size[0],
            self.stride[0],
            (int(self.padding[0]), int(self.padding[1])),
            (self.output_padding[0], self.output_padding[1]),
            (shape[2], shape[3]),
            tile,
        )

    def transformed_bytes(self, tile: int) -> int:
        """What the transformed weights take."""
        values = tile**2 * self.stride[0] ** 2 * self.in_channels * self.out_channels
        return values * (8 if self.weight.dtype == torch.float64 else 4)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See `nn.ConvTranspose2d`."""
        chosen = {} if torch.compiler.is_compiling() else self.tiles or {}
        tile = chosen.get(tuple(input.shape))
        if tile is None or output_size is not None or not self.is_constant or isinstance(input, FakeTensor):
            return super().forward(input, output_size)
        return self.in_tiles(input, tile, self.transformed(tile))

    def in_tiles(self, input: Tensor, tile: int, weights: Weights) -> Tensor:
        """What `forward` computes, with transformed weights that are given."""
        predicted: Tensor = _Tiled.apply(input, weights, self.layout(input.shape, tile), False)
        return predicted if self.bias is None else predicted + self.bias.to(predicted.dtype)[:, None, None]

    @property
    def is_constant(self) -> bool:
        """Whether PyTorch counts the weight's changes, and needs no gradient of it."""
        return not (self.weight.requires_grad or self.weight.is_inference())

    def transformed(self, tile: int) -> Weights:
        """The transformed weights for tiles of this side."""
        version = _Version.of(self.weight)
        known = self._transformed.get(tile)
        if known is not None and known[0] == version:
            return known[1]
        self._transformed.pop(tile, None)  # before the new ones are made
        with torch.inference_mode(False), torch.no_grad():
            made = Weights(self.weight.detach(), self.stride[0], tile)
        self._transformed[tile] = version, made
        return made

    def choose(self, tiles: Mapping[tuple[int, ...], int] | None) -> None:
        """Compute inputs of these shapes in these tiles, and all others directly; None: nobody has chosen."""
        self.tiles = None if tiles is None else dict(tiles)
        used = set((tiles or {}).values())
        self._transformed = {tile: known for tile, known in self._transformed.items() if tile in used}
        for tile in used:
            self.transformed(tile)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "tiles": copy.copy(self.tiles), "_transformed": {}}


@dataclass(frozen=True)
class _Version:
    """Which values a weight has: two that are equal mean the same.

    Attributes:
        count: PyTorch's count of the changes.
        address: Where they lie. ``owner`` keeps the memory from being given to another tensor.
    """

    count: int
    address: int
    dtype: torch.dtype
    device: torch.device
    owner: Tensor = field(compare=False)

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        return cls(weight._version, weight.data_ptr(), weight.dtype, weight.device, weight.detach())


_Compute = Callable[[Tensor, Weights, Layout], Tensor]


class _Tiled(torch.autograd.Function):
    """`tiles.predict` or, transposed, `tiles.pull`: linear in ``x``, so that each is the other's gradient."""

    @staticmethod
    def forward(x: Tensor, weights: Weights, layout: Layout, transposed: bool) -> Tensor:
        way = fused_tiles if torch.compiler.is_compiling() else tiles
        compute: _Compute = way.pull if transposed else way.predict
        with torch.autocast(x.device.type, enabled=False):  # the transforms need all their digits
            return compute(x.to(weights.product.dtype), weights, layout).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.rest = inputs[1:]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None, None]:
        weights, layout, transposed = ctx.rest
        return _Tiled.apply(cotangent, weights, layout, not transposed), None, None, None
