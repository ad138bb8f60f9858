"""Tiles against PyTorch's own transposed convolution, forward and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from pcgraph.predictors.fast import fused_tiles, tiles
from pcgraph.predictors.fast.tile_transforms import ERROR, POINTS, tile_of, toom_cook
from pcgraph.predictors.fast.tiles import Layout, Weights, predict, pull


@pytest.mark.parametrize("multiplications", POINTS)
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
def test_toom_cook_is_a_correlation(multiplications: int, taps: int) -> None:
    algorithm, tile = toom_cook(multiplications, taps), tile_of(multiplications)
    assert len(algorithm.kernel) == multiplications
    g, d = torch.randn(taps, dtype=torch.float64), torch.randn(tile, dtype=torch.float64)
    expected = [sum(g[t] * d[j + t] for t in range(taps)) for j in range(tile - taps + 1)]
    got = algorithm.output @ ((algorithm.kernel @ g) * (algorithm.input @ d))
    torch.testing.assert_close(got, torch.stack(expected))


@given(st.data())
def test_tiles_equal_the_direct_transposed_convolution(data: st.DataObject) -> None:
    draw = data.draw
    stride = draw(st.integers(1, 4))
    tile = draw(st.sampled_from(sorted(POINTS)))
    kernel = draw(st.integers(stride + 1, stride * (tile_of(tile) - 1)))
    two = st.tuples
    padding = draw(two(st.integers(0, kernel + 1), st.integers(0, kernel + 1)))
    output_padding = draw(two(st.integers(0, stride - 1), st.integers(0, stride - 1)))
    size = draw(two(st.integers(1, 13), st.integers(1, 13)))
    batch, channels, targets = draw(
        two(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 3, 12, 64]))
    )
    result = [
        (s - 1) * stride - 2 * p + kernel + o for s, p, o in zip(size, padding, output_padding, strict=True)
    ]
    assume(min(result) > 0)
    torch.manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(batch, channels, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(channels, targets, kernel, kernel, dtype=torch.float64)
    expected = F.conv_transpose2d(x, weight, None, stride, padding, output_padding)
    assert list(expected.shape[2:]) == result
    cotangent = torch.randn_like(expected)
    (pulled,) = torch.autograd.grad(expected, x, cotangent)

    weights = Weights(weight, stride, tile)
    layout = Layout(kernel, stride, padding, output_padding, size, tile)
    for way in (tiles, fused_tiles):
        torch.testing.assert_close(way.predict(x.detach(), weights, layout), expected.detach())
        torch.testing.assert_close(way.pull(cotangent, weights, layout), pulled)


@pytest.mark.parametrize(("tile", "share"), [(6, 5e-6), (8, 2e-5), (10, 1e-4), (11, 1e-5)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (6, 2), (10, 2), (14, 2)])
def test_float32_keeps_its_digits(tile: int, share: float, kernel: int, stride: int) -> None:
    if kernel // stride >= tile_of(tile):
        pytest.skip("the kernel of a phase does not fit")
    x, weight = torch.randn(1, 16, 12, 12).relu(), torch.randn(16, 8, kernel, kernel)
    expected = F.conv_transpose2d(x.double(), weight.double(), stride=stride)
    layout = Layout(kernel, stride, (0, 0), (0, 0), (12, 12), tile)
    got = predict(x, Weights(weight, stride, tile), layout)
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() <= share * expected.abs().max()


@pytest.mark.parametrize(("tile", "taps"), [(6, 5), (8, 5), (8, 7), (10, 5), (10, 7), (11, 5), (11, 7)])
def test_the_errors_are_those_that_are_told(tile: int, taps: int) -> None:
    x, weight = torch.randn(2, 64, 16, 16).relu(), torch.randn(64, 8, 2 * taps, 2 * taps)
    expected = F.conv_transpose2d(x.double(), weight.double(), stride=2)
    got = predict(x, Weights(weight, 2, tile), Layout(2 * taps, 2, (0, 0), (0, 0), (16, 16), tile))
    error = float((got - expected).abs().max() / expected.abs().max())
    assert ERROR[tile] / 10 < error < 1.5 * ERROR[tile]


@pytest.mark.parametrize("targets", [5, 96])
def test_results_made_block_by_block_are_the_same(targets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 7, 9, 9, dtype=torch.float64)
    weight = torch.randn(7, targets, 6, 6, dtype=torch.float64)
    layout = Layout(6, 2, (2, 2), (0, 0), (9, 9), 6)
    weights = Weights(weight, 2, 6)
    expected = predict(x, weights, layout)
    pulled = pull(expected, weights, layout)
    monkeypatch.setattr(tiles, "BLOCK", 1)
    monkeypatch.setattr(fused_tiles, "BLOCK", 1)
    for way in (tiles, fused_tiles):
        torch.testing.assert_close(way.predict(x, weights, layout), expected)
        torch.testing.assert_close(way.pull(expected, weights, layout), pulled)
