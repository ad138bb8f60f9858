"""How long each way to compute a layer takes, and how exact it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pcgraph.predictors.fast.tiled_layer import TiledConvTranspose2d
from pcgraph.predictors.fast.tiles import Layout, predict, pull

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Way:
    """One way to compute a layer.

    Attributes:
        tile: Multiplications along a tile's side, which is as long (11: ten); None computes it directly.
        seconds: A prediction and its vector-Jacobian product.
        bytes: What the transformed weights take.
        error: Largest error of either, relative to the largest value.
    """

    tile: int | None
    seconds: float
    bytes: int = 0
    error: float = 0.0

    def __str__(self) -> str:
        name = "direct" if self.tile is None else f"tiles of {self.tile}"
        error = "" if self.tile is None else f", error {self.error:.0e}, {self.bytes / 1e6:.0f} MB"
        return f"{name} {self.seconds * 1e3:.1f} ms{error}"


def measured_ways(layer: TiledConvTranspose2d, shape: Shape, memory: float) -> tuple[Way, ...]:
    """Direct, and each tile with fewer multiplications whose transformed weights fit.

    Args:
        layer: With constant weights; it computes everything directly before and after.
        shape: Of its input.
        memory: What the transformed weights may take, in bytes.
    """
    weight = layer.weight
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.randn(shape).relu().to(weight.device, weight.dtype)
        cotangent = torch.randn(layer(x).shape).to(weight.device, weight.dtype)
    ways = [Way(None, _seconds(layer, x, cotangent))]
    for tile in layer.possible_tiles:
        layout = layer.layout(shape, tile)
        made = tile**2 * layout.stride**2 * layout.axes[0].tiles * layout.axes[1].tiles
        if made >= layout.kernel**2 * shape[2] * shape[3]:
            continue
        if layer.transformed_bytes(tile) > memory:
            continue
        layer.choose({shape: tile})
        error = _error(layer, x[:1], cotangent[:1], layout)
        ways.append(Way(tile, _seconds(layer, x, cotangent), layer.transformed_bytes(tile), error))
        layer.choose({})
    return tuple(ways)


def _seconds(layer: TiledConvTranspose2d, x: Tensor, cotangent: Tensor) -> float:
    """A prediction and its vector-Jacobian product; the faster of two runs."""
    times = []
    for _ in range(2):
        _finish(x)
        begin = time.perf_counter()
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.detach().requires_grad_()
            predicted = layer(leaf)
            torch.autograd.grad(predicted, leaf, cotangent.to(predicted.dtype))
        _finish(x)
        times.append(time.perf_counter() - begin)
    return min(times)


def _finish(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def _error(layer: TiledConvTranspose2d, x: Tensor, cotangent: Tensor, layout: Layout) -> float:
    """Largest error of the prediction and of the product, against float64, for a few target channels."""
    few = slice(4)
    leaf = x.double().requires_grad_()
    only = torch.zeros_like(cotangent)
    only[:, few] = cotangent[:, few]
    with torch.enable_grad():
        weight = layer.weight.detach()[:, few].double()
        expected = F.conv_transpose2d(
            leaf, weight, None, layout.stride, layout.padding, layout.output_padding
        )
        (pulled,) = torch.autograd.grad(expected, leaf, only[:, few].double())
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        weights = layer.transformed(layout.tile)
        dtype = weights.product.dtype
        return max(
            _difference(predict(x.to(dtype), weights, layout)[:, few], expected),
            _difference(pull(only.to(dtype), weights, layout), pulled),
        )


def _difference(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())
