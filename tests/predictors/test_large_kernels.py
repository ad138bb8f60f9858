"""Transposed convolutions in parts are the ones they stand for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import pcgraph as pcg
from pcgraph.predictors.fast import large_kernels
from pcgraph.predictors.fast.large_kernels import PartedConvTranspose2d, part_large


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_are_the_whole(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.ConvTranspose2d(10, 4, 6, stride=2, padding=2, output_padding=1).double()
    layer = copy.deepcopy(plain)
    monkeypatch.setattr(large_kernels, "LARGE", -(-plain.weight.nbytes // parts))
    part_large(layer)
    assert type(layer) is PartedConvTranspose2d
    x = torch.randn(2, 10, 5, 7, dtype=torch.float64, requires_grad=True)
    expected, got = plain(x), layer(x)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [x, *plain.parameters()], cotangent)
    for one, other in zip(torch.autograd.grad(got, [x, *layer.parameters()], cotangent), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_large_kernels_of_a_network_are_parted_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_kernels, "LARGE", 4 * 8 * 8 * 9)
    spec = {
        "name": "kernels",
        "nodes": {"a": {"shape": [8, 6, 6]}, "b": {"shape": [8, 6, 6]}, "c": {"shape": [8, 6, 6]}},
        "edges": [
            {
                "source": "b",
                "target": "a",
                "predictor": [{"ConvTranspose2d": {"kernel_size": 3, "padding": 1}}],
            },
            {
                "source": "c",
                "target": "b",
                "predictor": [{"ConvTranspose2d": {"kernel_size": 5, "padding": 2}}],
            },
        ],
        "dynamics": {"rule": "energy"},
    }
    network = pcg.build(pcg.parse_spec(spec))
    kinds = {name: type(predictor) for name, predictor in network.predictors.items()}
    assert kinds == {"b->a": nn.ConvTranspose2d, "c->b": PartedConvTranspose2d}
