"""Distortions of pixels, against slow references and closed forms."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pcgraph.datasets.distortions import blur, low_contrast, low_frequency, occlusion, stripes
from pcgraph.datasets.noise import PIXEL_NOISES, Noise
from pcgraph.errors import InputError

SHAPES = [(1, 28, 28), (3, 17, 12), (3, 9, 40)]


def some(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", sorted(PIXEL_NOISES))
@pytest.mark.parametrize("shape", SHAPES)
def test_level_0_changes_nothing_and_pixels_that_are_given_stay(kind: str, shape: tuple[int, ...]) -> None:
    pixels = some(shape)
    kept = pixels.clone()
    torch.testing.assert_close(PIXEL_NOISES[kind](pixels, 0.0, draws(0)), pixels)
    changed = PIXEL_NOISES[kind](pixels, 0.4, draws(0))
    assert changed.shape == pixels.shape
    assert changed.dtype == pixels.dtype
    assert (changed - pixels).abs().max() > 0.05
    assert pixels.equal(kept)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.6, 12.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_scipys(sigma: float, shape: tuple[int, ...]) -> None:
    pixels = some(shape)
    expected = [gaussian_filter(one.double().numpy(), sigma, mode="nearest", truncate=4) for one in pixels]
    torch.testing.assert_close(
        blur(pixels, sigma), torch.from_numpy(np.stack(expected)).float(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_slow_waves_have_up_to_three_cycles_and_their_level(shape: tuple[int, ...]) -> None:
    _, height, width = shape
    fields = torch.stack([low_frequency(torch.zeros(shape), 0.5, draws(seed)) for seed in range(400)])
    assert fields.std(dim=0).mean().item() == pytest.approx(0.5, rel=0.03)
    assert fields[:, 0].equal(fields[:, -1])
    power = torch.fft.fft2(fields[:, 0].double()).abs().mean(dim=0)
    cycles = [torch.fft.fftfreq(side, 1 / side).abs() for side in (height, width)]
    slow = (cycles[0][:, None] <= 3) & (cycles[1] <= 3)
    slow[0, 0] = False
    assert power[~slow].max() < 1e-3 * power[slow].min()
    spread = power[slow] / power[slow].mean()  # all waves alike
    assert 0.8 < spread.min() < spread.max() < 1.2
    twice = low_frequency(torch.zeros(shape), 1.0, draws(7))
    torch.testing.assert_close(2 * fields[7], twice)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.6, 1.0])
def test_an_occluder_hides_its_share_with_grey(shape: tuple[int, ...], share: float) -> None:
    pixels = some(shape) * 0.4
    rows, columns = (round(math.sqrt(share) * side) for side in shape[1:])
    corners = set()
    for seed in range(300):
        hidden = occlusion(pixels, share, draws(seed))
        places = (hidden != pixels).all(dim=0).nonzero()
        assert len(places) == rows * columns
        (top, left), (bottom, right) = places.min(dim=0).values.tolist(), places.max(dim=0).values.tolist()
        assert (bottom - top + 1, right - left + 1) == (rows, columns)
        assert (hidden[:, top : bottom + 1, left : right + 1] == 0.5).all()
        corners.add((top, left))
    tops, lefts = ({corner[at] for corner in corners} for at in (0, 1))
    assert {0, shape[1] - rows} <= tops <= set(range(shape[1] - rows + 1))
    assert {0, shape[2] - columns} <= lefts <= set(range(shape[2] - columns + 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.3, 0.75, 1.0])
def test_contrast_is_what_is_left_of_the_spread(shape: tuple[int, ...], level: float) -> None:
    pixels = some(shape)
    found = low_contrast(pixels, level)
    torch.testing.assert_close(found.mean(dim=(1, 2)), pixels.mean(dim=(1, 2)))
    torch.testing.assert_close(found.std(dim=(1, 2)), (1 - level) * pixels.std(dim=(1, 2)))


@pytest.mark.parametrize("shape", SHAPES)
def test_stripes_are_a_turned_square_wave(shape: tuple[int, ...]) -> None:
    for seed in range(5):
        angle, cycles, phase = torch.rand(3, generator=draws(seed), dtype=torch.float64).tolist()
        along = cmath.exp(1j * math.pi * angle)  # columns are real, rows imaginary
        pairs = (4 + 4 * cycles) / min(shape[1:])
        found = stripes(torch.zeros(shape), 0.3, draws(seed))
        for row in range(shape[1]):
            for column in range(shape[2]):
                wave = pairs * (complex(column, row) * along.conjugate()).real + phase
                if abs(2 * wave - round(2 * wave)) > 1e-6:  # on an edge either is right
                    expected = 0.3 if math.floor(2 * wave) % 2 == 0 else -0.3
                    assert found[:, row, column].tolist() == pytest.approx([expected] * shape[0])


@pytest.mark.parametrize("kind", ["low_frequency", "occlusion", "stripes"])
def test_draws_differ_and_repeat(kind: str) -> None:
    pixels = some((1, 28, 28))
    one = PIXEL_NOISES[kind](pixels, 0.3, draws(1))
    assert one.equal(PIXEL_NOISES[kind](pixels, 0.3, draws(1)))
    assert not one.equal(PIXEL_NOISES[kind](pixels, 0.3, draws(2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blur:65", "expected a number from 0 to 64 after 'blur:', got '65'"),
        ("occlusion:1.1", "expected a share from 0 to 1"),
        ("low_contrast:-0.1", "expected a share from 0 to 1"),
        ("stripes:inf", "expected a number from 0 on"),
        ("low_frequency:nan", "expected a number from 0 on"),
        ("lowfrequency:1", "unknown kind 'lowfrequency'"),
    ],
)
def test_refuses_levels_that_mean_nothing(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Noise.parse(text)
