"""Transposed convolution in tiles: each tile of the map is transformed, multiplied and transformed back.

A transposed convolution with stride s is s * s plain correlations of the small map, its phases, whose results
interleave: every s-th row and column of the prediction comes from one phase. All phases read the same
transformed tiles, so a layer is one batched matrix product, with the weights transformed once.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgraph.predictors.fast.tile_transforms import tile_of, toom_cook

BLOCK = 2**24
"""Bytes of an intermediate result. Larger ones would leave the processor's caches, and their memory would be
asked of the system, page by page, each time. Only the images that read large weights together may be more."""
GROUP = 32
"""Target channels that lie side by side in a transformed weight; as many as they and this have in common."""


@dataclass(frozen=True)
class Axis:
    """How the tiles lie along one axis.

    Attributes:
        size: Length of the map.
        result: Length of the prediction.
        tiles: Number of tiles.
        front: Zeros before the map (negative: what is left out of it).
        crop: What is left out before the prediction.
    """

    size: int
    result: int
    tiles: int
    front: int
    crop: int


@dataclass(frozen=True)
class Layout:
    """A transposed convolution of a map of one size, with a square kernel and equal strides, in tiles.

    Args:
        kernel: Its size.
        stride: Its stride.
        padding: By axis.
        output_padding: By axis.
        size: Height and width of the map.
        algorithm: One of `tile_transforms.POINTS`.
    """

    kernel: int
    stride: int
    padding: tuple[int, int]
    output_padding: tuple[int, int]
    size: tuple[int, int]
    algorithm: int

    @property
    def tile(self) -> int:
        """Side of the tiles."""
        return tile_of(self.algorithm)

    @property
    def taps(self) -> int:
        """Side of the kernel of a phase."""
        return -(-self.kernel // self.stride)

    @property
    def step(self) -> int:
        """How far tiles lie apart, and how many results along an axis one gives for a phase."""
        return self.tile - self.taps + 1

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """How the tiles lie, by axis."""
        return self._axis(0), self._axis(1)

    def _axis(self, axis: int) -> Axis:
        size, padding = self.size[axis], self.padding[axis]
        result = (size - 1) * self.stride - 2 * padding + self.kernel + self.output_padding[axis]
        first = padding // self.stride
        last = (padding + result - 1) // self.stride
        tiles = -(-(last - first + 1) // self.step)
        return Axis(size, result, tiles, self.taps - 1 - first, padding - self.stride * first)


class Weights:
    """Transformed weights of one layer.

    Args:
        weight: (channels, target channels, kernel, kernel), as `nn.ConvTranspose2d` holds it.
        stride: Of the layer.
        algorithm: One of `tile_transforms.POINTS`: the side of a transformed tile.

    Attributes:
        product: (algorithm * algorithm, target channels * stride * stride, channels), float32, or float64
            where the weights are. The target channels come in groups, in which the phases come first.
        group: How many they are.
        bytes: What it takes.
        output: See `toom_cook.Algorithm`; like ``input`` in the dtype of ``product``.
    """

    def __init__(self, weight: Tensor, stride: int, algorithm: int) -> None:
        channels, targets, kernel, _ = weight.shape
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        found = toom_cook(algorithm, -(-kernel // stride))
        self.stride, self.algorithm, self.group = stride, algorithm, math.gcd(targets, GROUP)
        self.output = found.output.to(weight.device, dtype)
        self.input = found.input.to(weight.device, dtype)
        shape = algorithm**2, targets * stride * stride, channels
        self.product = torch.empty(shape, dtype=dtype, device=weight.device)
        groups = self.product.view(algorithm, algorithm, -1, stride, stride, self.group, channels)
        # both phases and taps at once: for each phase, the taps that it reads, from the last to the first
        of_phases = torch.kron(found.kernel.flip(1), torch.eye(stride, dtype=torch.float64))
        transform = of_phases[:, :kernel].to(weight.device)
        for target in range(targets):
            rows = transform @ weight[:, target].double().permute(1, 2, 0)
            made = (transform @ rows.view(kernel, -1)).view(algorithm, stride, algorithm, stride, channels)
            groups[:, :, target // self.group, :, :, target % self.group] = made.permute(0, 2, 1, 3, 4)
        self.bytes = self.product.numel() * self.product.element_size()

    def of(self, targets: slice) -> Tensor:
        """`product` of some target channels, whole groups of them."""
        return self.product[:, targets.start * self.stride**2 : targets.stop * self.stride**2]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a product reads."""
        return self.product, self.input, self.output

    def lent(self, tensors: tuple[Tensor, Tensor, Tensor]) -> Weights:
        """The same with other `tensors`."""
        same = copy.copy(self)
        same.product, same.input, same.output = tensors
        return same


def predict(x: Tensor, weights: Weights, layout: Layout) -> Tensor:
    """The transposed convolution of ``x``, without the bias.

    Args:
        x: (batch, channels, *layout.size).
        weights: Of the same stride and tile.
        layout: How the tiles lie.

    Returns:
        (batch, target channels, height, width).
    """
    side, step, stride = weights.algorithm, layout.step, weights.stride
    high, wide = layout.axes
    batch, channels = x.shape[:2]
    targets = weights.product.shape[1] // stride**2
    inside = slice(high.crop, high.crop + high.result), slice(wide.crop, wide.crop + wide.result)
    results = x.new_empty(batch, targets, high.result, wide.result)
    values_each = side**2 * high.tiles * wide.tiles * x.element_size()  # bytes, for an image and a channel
    for images in _blocks(batch, values_each * channels, weights.bytes):
        values = _values(x[images], weights.input, layout).mT
        count = images.stop - images.start
        for block in _blocks(targets, values_each * stride**2 * count, multiple=weights.group):
            products = torch.bmm(values, weights.of(block).mT).view(side, side, -1)
            phases = _both_ways(weights.output, products)
            phases = phases.view(step, step, count, high.tiles, wide.tiles, -1, stride, stride, weights.group)
            whole = phases.permute(2, 3, 0, 6, 4, 1, 7, 5, 8)
            whole = whole.reshape(count, high.tiles * step * stride, wide.tiles * step * stride, -1)
            results[images, block] = whole[:, *inside].permute(0, 3, 1, 2)
    return results


def pull(cotangent: Tensor, weights: Weights, layout: Layout) -> Tensor:
    """The vector-Jacobian product of `predict` with respect to ``x``: its transpose, stage by stage.

    Args:
        cotangent: (batch, target channels, height, width).
        weights: Of the same stride and tile.
        layout: How the tiles lie.

    Returns:
        (batch, channels, *layout.size).
    """
    side, tile, step, stride = weights.algorithm, layout.tile, layout.step, layout.stride
    high, wide = layout.axes
    batch, targets = cotangent.shape[:2]
    channels, back = weights.product.shape[2], weights.input.T
    cut = [-margin for margin in (*margins(wide, layout), *margins(high, layout))]
    result = cotangent.new_empty(batch, channels, high.size, wide.size)
    values_each = side**2 * high.tiles * wide.tiles * cotangent.element_size()
    for images in _blocks(batch, values_each * weights.product.shape[1], weights.bytes):
        count = images.stop - images.start
        products = cotangent.new_zeros(side**2, count * high.tiles * wide.tiles, channels)
        for block in _blocks(targets, values_each * stride**2 * count, multiple=weights.group):
            values = _pulled_values(cotangent[images, block], weights, layout).mT
            products.baddbmm_(values, weights.of(block))
        tiles = torch.matmul(back, products.view(side, side, -1))
        tiles = tiles.view(side, tile, count, high.tiles, wide.tiles, channels)
        rows = _overlapped(tiles.movedim(1, 0), 3, step)
        strips = (back @ rows.view(side, -1)).view(tile, count, high.tiles, -1, channels)
        whole = F.pad(_overlapped(strips, 1, step), (0, 0, *cut))
        result[images] = whole.permute(0, 3, 1, 2)
    return result


def _pulled_values(cotangent: Tensor, weights: Weights, layout: Layout) -> Tensor:
    """The results' tiles, transformed back: (side * side, target channels * stride * stride, tiles)."""
    step, stride = layout.step, layout.stride
    high, wide = layout.axes
    padded = F.pad(cotangent, (*ends(wide, layout), *ends(high, layout)))
    phases = F.pixel_unshuffle(padded, step * stride)
    phases = phases.view(
        len(cotangent), -1, weights.group, step, stride, step, stride, high.tiles, wide.tiles
    )
    phases = phases.permute(3, 5, 1, 4, 6, 2, 0, 7, 8).reshape(step, step, -1)
    tiles = len(cotangent) * high.tiles * wide.tiles
    return _both_ways(weights.output.T, phases).view(weights.algorithm**2, -1, tiles)


def _values(x: Tensor, transform: Tensor, layout: Layout) -> Tensor:
    """The transformed tiles of some images: (side * side, channels, tiles)."""
    side, tile, step = len(transform), layout.tile, layout.step
    high, wide = layout.axes
    padded = F.pad(x, (*margins(wide, layout), *margins(high, layout)))
    strips = padded.unfold(2, tile, step).permute(4, 1, 0, 2, 3)  # rows of tiles, as long as the map
    rows = (transform @ strips.reshape(tile, -1)).view(side, x.shape[1], len(x), high.tiles, -1)
    tiles = rows.unfold(4, tile, step).permute(0, 5, 1, 2, 3, 4)
    return torch.matmul(transform, tiles.reshape(side, tile, -1)).view(side**2, x.shape[1], -1)


def margins(axis: Axis, layout: Layout) -> tuple[int, int]:
    """Zeros before and after the map, so that the tiles cover it."""
    length = axis.tiles * layout.step + layout.taps - 1
    return axis.front, length - axis.front - axis.size


def ends(axis: Axis, layout: Layout) -> tuple[int, int]:
    """Zeros before and after the prediction, so that the tiles' results make it up."""
    return axis.crop, axis.tiles * layout.step * layout.stride - axis.crop - axis.result


def _overlapped(pieces: Tensor, dim: int, step: int) -> Tensor:
    """Pieces (length, ...) that lie ``step`` apart along ``dim`` of the rest, added up where they overlap."""
    length, *shape = pieces.shape
    reach = (shape[dim] - 1) * step + 1
    shape[dim] = reach + length - 1
    whole = pieces.new_zeros(shape)
    for place, piece in enumerate(pieces):
        whole.narrow(dim, place, reach).unfold(dim, 1, step).squeeze(-1).add_(piece)
    return whole


def _both_ways(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix`` applied along the first and along the second axis of (m, n, others)."""
    rows = (matrix @ x.reshape(x.shape[0], -1)).view(len(matrix), x.shape[1], -1)
    return torch.matmul(matrix, rows)


def _blocks(count: int, bytes_each: int, limit: int = 0, multiple: int = 1) -> list[slice]:
    """``range(count)`` in blocks of at most ``limit`` bytes; of `BLOCK`, if that is more; no group is cut."""
    step = multiple * max(1, max(BLOCK, limit) // (multiple * bytes_each))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
