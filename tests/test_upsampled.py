"""The convolution of the small map equals the transposed convolution of the doubled one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pcgraph.predictors import automatic
from pcgraph.upsampled import UpsampledConvTranspose2d, phased, phases


@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 4, 2, 2), (1, 4, 2, 3), (2, 3, 8, 8)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_phases_equal_upsampling_then_convolving(shape: tuple[int, ...], has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)

    x, weight = random(*shape), random(shape[1], 2, 3, 3)
    bias = random(2) if has_bias else None
    doubled = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    expected = F.conv_transpose2d(doubled, weight, bias, padding=1)
    module = UpsampledConvTranspose2d(nn.Upsample((2, 2)), nn.ConvTranspose2d(1, 1, 3, padding=1)).double()
    got = phased(x, phases(weight, bias, module.reads))
    torch.testing.assert_close(got, expected)
    cotangent = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(got, (x, weight), cotangent),
        torch.autograd.grad(expected, (x, weight), cotangent),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((32, 8, 8), (3, 16, 16)),
        ((8, 8, 8), (3, 16, 16)),
        ((32, 7, 7), (3, 16, 16)),
        ((32, 4, 4), (3, 16, 16)),
        ((32, 1, 8), (3, 2, 16)),
    ],
)
def test_the_automatic_predictor_is_what_it_says(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    module = automatic(source, target)
    plain = nn.Sequential(*module)
    assert list(module.state_dict()) == ["1.weight", "1.bias"]
    x = torch.randn(2, *source)
    torch.testing.assert_close(module(x), plain(x), atol=1e-5, rtol=1e-4)
