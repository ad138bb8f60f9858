"""Predictors in tiles inside a compiled step: the same predictions and products, with lent weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcgraph.acceleration import TiledConvTranspose2d
from pcgraph.predictors.fast.lent_tiles import lent, transformed
from pcgraph.simulation.packages import _as_if_compiled

SHAPE = (2, 5, 9, 8)


def large(channels: int = 5, targets: int = 4, **arguments: int) -> TiledConvTranspose2d:
    """In tiles of 10 for inputs of 9 x 8."""
    layer = TiledConvTranspose2d(channels, targets, **arguments).double().requires_grad_(False)
    layer.choose({(2, channels, 9, 8): 10})
    return layer


PREDICTORS = {
    "one": lambda: large(kernel_size=7, padding=3),
    "before ReLU": lambda: nn.Sequential(large(targets=32, kernel_size=10, stride=2, padding=4), nn.ReLU()),
    "behind tanh": lambda: nn.Sequential(nn.Tanh(), large(kernel_size=14, stride=2, padding=6, bias=False)),
    "two in a row": lambda: nn.Sequential(
        large(targets=7, kernel_size=7, padding=3), nn.Sigmoid(), large(7, kernel_size=10, stride=3)
    ),
}


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_predictions_and_products(name: str) -> None:
    torch.manual_seed(0)
    predictor = PREDICTORS[name]()
    weights = transformed(predictor, 2)
    x = torch.randn(SHAPE, dtype=torch.float64)
    for layer in predictor.modules():
        if isinstance(layer, TiledConvTranspose2d):
            layer.choose({})
    expected, back = torch.func.vjp(predictor, x)
    (pulled,) = back(cotangent := torch.randn_like(expected))
    for layer in predictor.modules():
        if isinstance(layer, TiledConvTranspose2d):
            layer.choose({(2, layer.in_channels, 9, 8): 10})
    with _as_if_compiled():
        tensors = {key: one.tensors for key, one in weights.items()}
        found, back = torch.func.vjp(lent(predictor, weights, tensors), x)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(back(cotangent)[0], pulled)
        doubled = {key: (2 * product, *others) for key, (product, *others) in tensors.items()}
        assert not torch.allclose(lent(predictor, weights, doubled)(x), expected)  # they are what is read


def test_what_is_lent_nothing() -> None:
    layer = large(kernel_size=7)
    assert len(transformed(layer, 2)) == 1
    assert transformed(layer, 3) == {}  # chosen for another batch
    assert transformed(nn.Sequential(nn.Sequential(layer)), 2) == {}
    assert transformed(nn.ConvTranspose2d(5, 4, 7).requires_grad_(False), 2) == {}
    assert transformed(layer.requires_grad_(True), 2) == {}
    layer.requires_grad_(False).register_forward_hook(lambda *_: None)
    assert transformed(layer, 2) == {}
