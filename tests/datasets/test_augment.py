"""Random cuts are drawn as torchvision draws them, and are what they say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from pcgraph.datasets import Augment, augmented, open_data
from pcgraph.datasets.augment import random_box, random_crop, shifted
from pcgraph.datasets.images import PIXELS
from pcgraph.errors import InputError


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair))),
    seed=st.integers(0, 1000),
)
def test_a_random_part_lies_inside(size: tuple[int, int], shares: tuple[float, float], seed: int) -> None:
    left, top, right, bottom = random_box(size, shares, torch.Generator().manual_seed(seed))
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]


def test_parts_are_distributed_as_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    picture = torch.empty(3, 300, 450)
    ours, theirs = [], []
    for _ in range(4000):
        left, top, right, bottom = random_box((450, 300), (0.08, 1.0), generator)
        ours.append((left, top, right - left, bottom - top))
        i, j, h, w = RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3])
        theirs.append((j, i, w, h))
    a, b = torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    for column in range(4):
        gap = (a[:, column].quantile(quantiles) - b[:, column].quantile(quantiles)).abs().max()
        assert gap < 15  # pixels, of 450 x 300; the standard error of these quantiles is about 3
    ratios = [(boxes[:, 2] / boxes[:, 3]).log() for boxes in (a, b)]
    assert abs(ratios[0].mean() - ratios[1].mean()) < 0.02  # its standard error is about 0.004
    assert ratios[0].abs().max() < math.log(4 / 3) + 0.02


def test_a_part_is_resized_to_the_input() -> None:
    ramp = torch.linspace(0, 1, 40).expand(30, 40)
    plane = Image.fromarray(ramp.numpy())
    generator = torch.Generator().manual_seed(5)
    left, _, right, _ = random_box((40, 30), (0.2, 0.5), generator)
    pixels = random_crop([plane], (1, 8, 8), PIXELS, (0.2, 0.5), torch.Generator().manual_seed(5))
    assert pixels.shape == (1, 8, 8)
    assert torch.allclose(pixels[0, 0], pixels[0, 7])  # the ramp is the same in every row
    edges = (left + (right - left) * (torch.arange(8) + 0.5) / 8 - 0.5) / 39
    assert torch.allclose(pixels[0, 0, 1:-1], edges[1:-1], atol=0.02)


def test_shifts_move_and_fill_with_black() -> None:
    picture = torch.arange(1.0, 26).reshape(1, 5, 5)
    seen = set()
    for seed in range(60):
        moved = shifted(picture, 1, torch.Generator().manual_seed(seed))
        assert moved.shape == picture.shape
        down, right = next(
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if moved[0, 2, 2] == picture[0, 2 - down, 2 - right]
        )
        assert torch.equal(
            moved[0, max(down, 0) : 5 + min(down, 0), max(right, 0) : 5 + min(right, 0)],
            picture[0, max(-down, 0) : 5 + min(-down, 0), max(-right, 0) : 5 + min(-right, 0)],
        )
        assert (moved == 0).sum() == 25 - (5 - abs(down)) * (5 - abs(right))
        seen.add((down, right))
    assert len(seen) == 9


def test_half_of_the_pictures_are_mirrored() -> None:
    data = open_data("digits", "test", shape=(1, 28, 28))
    mirrored = augmented(data, Augment(flip=True))
    flips = []
    for index in range(200):
        image, plain = mirrored.item(index, 1).image, data[index].image
        assert torch.equal(image, plain) or torch.equal(image, plain.flip(-1))
        flips.append(not torch.equal(image, plain))
    assert 75 < sum(flips) < 125


def test_shares_that_are_none() -> None:
    for crop in [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5)]:
        with pytest.raises(InputError, match="crop"):
            Augment(crop=crop)
    with pytest.raises(InputError, match="shift"):
        Augment(shift=-1)
