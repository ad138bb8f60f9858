"""However it is computed, the result is that of upsampling and then convolving, and so are its gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pcgraph.graph import Node
from pcgraph.predictors.automatic import automatic
from pcgraph.predictors.fast.doubling import READS, phased, phases
from pcgraph.predictors.fast.resizing import (
    by_products,
    share_of_multiplications,
    taps,
    volume_by_products,
)
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d, UpsampledConvTranspose3d
from pcgraph.spec.layout import convention

Size = tuple[int, ...]


def check(compute: Callable[..., Tensor], shape: Size, size: Size, has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)

    volume = len(size) == 3
    x, weight = random(*shape), random(shape[1], 2, *[3] * len(size))
    bias = random(2) if has_bias else None
    mode = "trilinear" if volume else "bilinear"
    upsampled = F.interpolate(x, size=size, mode=mode, align_corners=False)
    convolve = F.conv_transpose3d if volume else F.conv_transpose2d
    expected = convolve(upsampled, weight, bias, padding=1)
    got = compute(x, weight, bias)
    torch.testing.assert_close(got, expected)
    cotangent = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    leaves = [x, weight] if bias is None else [x, weight, bias]
    for one, other in zip(
        torch.autograd.grad(got, leaves, cotangent),
        torch.autograd.grad(expected, leaves, cotangent),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 4, 2, 2), (1, 4, 2, 3), (2, 3, 8, 8)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_by_phases(shape: Size, has_bias: bool) -> None:
    def compute(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return phased(x, phases(weight, bias, torch.tensor(READS, dtype=torch.float64)))

    check(compute, shape, (2 * shape[2], 2 * shape[3]), has_bias)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 8, 5, 7), (10, 14)),
        ((1, 4, 1, 1), (2, 2)),
        ((1, 4, 4, 3), (9, 7)),
        ((2, 3, 5, 5), (20, 11)),
        ((2, 3, 7, 6), (4, 3)),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False])
def test_by_products(shape: Size, size: tuple[int, int], has_bias: bool) -> None:
    rows, columns = (
        taps(shape[2 + side], size[side]).transpose(0, 1).flatten(1) for side in range(2)
    )  # (target, taps x source)
    check(lambda x, weight, bias: by_products(x, weight, bias, rows, columns), shape, size, has_bias)


VOLUMES = [
    ((2, 4, 2, 3, 5), (4, 7, 11)),
    ((1, 3, 1, 1, 1), (2, 2, 2)),
    ((1, 2, 4, 3, 2), (4, 6, 6)),
    ((2, 3, 5, 4, 6), (3, 9, 2)),
]


@pytest.mark.parametrize(("shape", "size"), VOLUMES)
@pytest.mark.parametrize("has_bias", [True, False])
def test_volumes_by_products(shape: Size, size: Size, has_bias: bool) -> None:
    along = [taps(shape[2 + axis], size[axis]).transpose(0, 1) for axis in range(3)]
    check(lambda x, weight, bias: volume_by_products(x, weight, bias, along), shape, size, has_bias)


def test_the_share_of_multiplications_of_volumes_is_counted() -> None:
    source, target = (2, 5, 7), (4, 11, 13)
    along = [taps(source[axis], target[axis]).float().transpose(0, 1) for axis in range(3)]
    x, weight = torch.randn(2, 6, *source), torch.randn(6, 4, 3, 3, 3)
    with FlopCounterMode(display=False) as products:
        volume_by_products(x, weight, None, along)
    with FlopCounterMode(display=False) as plain:
        F.conv3d(torch.randn(2, 6, *target), weight.transpose(0, 1), padding=1)
    counted = products.get_total_flops() / plain.get_total_flops()
    assert share_of_multiplications(6, source, target) == pytest.approx(counted)


@pytest.mark.parametrize(
    ("source", "target", "products"),
    [
        ((64, 2, 3, 3), (3, 4, 12, 12), True),
        ((16, 1, 4, 4), (8, 1, 9, 7), True),
        ((8, 4, 8, 8), (4, 2, 4, 4), False),
    ],
)
def test_the_automatic_predictor_of_volumes_is_what_it_says(
    source: Size, target: Size, products: bool
) -> None:
    nodes = [Node(name, size, layout=convention(size)) for name, size in (("a", source), ("b", target))]
    module = automatic(*nodes)
    assert isinstance(module, UpsampledConvTranspose3d)
    assert module.by_products is products
    plain = nn.Sequential(*module)
    assert list(module.state_dict()) == ["1.weight", "1.bias"]
    x = torch.randn(2, *source)
    torch.testing.assert_close(module(x), plain(x), atol=1e-5, rtol=1e-4)
    other = torch.randn(1, source[0], 3, 3, 2)
    assert torch.equal(module(other), plain(other))
    module[1].register_forward_hook(lambda layer, given, made: made + 1)
    assert torch.equal(module(x), plain(x))  # what a hook does is not gone around


def test_the_share_of_multiplications_is_counted() -> None:
    source, target = (5, 7), (11, 13)
    rows, columns = (taps(source[side], target[side]).float().transpose(0, 1).flatten(1) for side in range(2))
    x, weight = torch.randn(2, 6, *source), torch.randn(6, 4, 3, 3)
    with FlopCounterMode(display=False) as products:
        by_products(x, weight, None, rows, columns)
    with FlopCounterMode(display=False) as plain:
        F.conv2d(torch.randn(2, 6, *target), weight.transpose(0, 1), padding=1)
    counted = products.get_total_flops() / plain.get_total_flops()
    assert share_of_multiplications(6, source, target) == pytest.approx(counted)


PRODUCTS, PHASES, LAYERS = "products", "phases", "layers"


@pytest.mark.parametrize(
    ("source", "target", "way"),
    [
        ((64, 7, 7), (32, 14, 14), PRODUCTS),
        ((64, 7, 7), (32, 15, 13), PRODUCTS),
        ((64, 1, 8), (3, 2, 16), PRODUCTS),
        ((32, 40, 40), (3, 80, 80), PHASES),
        ((8, 8, 8), (3, 16, 16), LAYERS),
        ((32, 40, 40), (3, 81, 80), LAYERS),
        ((64, 14, 14), (8, 7, 7), LAYERS),
    ],
)
def test_the_automatic_predictor_is_what_it_says(source: Size, target: Size, way: str) -> None:
    nodes = [Node(name, size, layout=convention(size)) for name, size in (("a", source), ("b", target))]
    module = automatic(*nodes)
    assert isinstance(module, UpsampledConvTranspose2d)
    assert way == (PRODUCTS if module.rows is not None else PHASES if module.reads is not None else LAYERS)
    plain = nn.Sequential(*module)
    assert list(module.state_dict()) == ["1.weight", "1.bias"]
    x = torch.randn(2, *source)
    torch.testing.assert_close(module(x), plain(x), atol=1e-5, rtol=1e-4)
    other = torch.randn(1, source[0], 3, 3)
    assert torch.equal(module(other), plain(other))
