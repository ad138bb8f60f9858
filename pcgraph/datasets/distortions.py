"""Distortions of pixels: blur, slow waves, an occluder, less contrast, stripes.

Each takes pixels (channels, height, width) from 0 to 1, a level of which 0 changes nothing, and a generator.
Draws do not depend on the level, and are the same for all channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SLOWEST = 3
"""Most cycles over the image, in either direction, of `low_frequency`."""
STRIPES = (4.0, 8.0)
"""Least and most cycles of `stripes` over the image's shorter side."""
REACH = 4
"""Standard deviations at which the kernel of `blur` ends."""
GREY = 0.5


def blur(pixels: Tensor, sigma: float, generator: torch.Generator | None = None) -> Tensor:
    """Averages with normal weights of standard deviation ``sigma``, in pixels; the borders are continued."""
    reach = int(REACH * sigma + 0.5)
    if reach == 0:
        return pixels
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).to(pixels.dtype)
    padded = F.pad(pixels[:, None], (reach, reach, reach, reach), mode="replicate")
    blurred: Tensor = F.conv2d(F.conv2d(padded, weights[None, None, :, None]), weights[None, None, None])
    return blurred[:, 0]


def low_frequency(pixels: Tensor, level: float, generator: torch.Generator | None = None) -> Tensor:
    """Adds a sum of waves of up to three cycles over the image, with normal amplitudes.

    At every pixel it is a normal number of standard deviation ``level``; it is not clipped.
    """
    height, width = pixels.shape[-2:]
    cycles = torch.arange(-SLOWEST, SLOWEST + 1)
    waves = torch.cartesian_prod(cycles, cycles)
    waves = waves[len(waves) // 2 + 1 :]  # one of each pair that are mirror images; not the constant
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    phase = 2 * math.pi * (waves[:, 0, None, None] * rows[:, None] + waves[:, 1, None, None] * columns)
    draw = torch.randn(2, len(waves), generator=generator)
    field: Tensor = torch.tensordot(draw[0], phase.cos(), 1) + torch.tensordot(draw[1], phase.sin(), 1)
    return pixels + level * field / math.sqrt(len(waves))


def occlusion(pixels: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """A grey rectangle of the image's proportions hides a share of it, somewhere within."""
    size = [round(math.sqrt(share) * side) for side in pixels.shape[-2:]]
    draw = torch.rand(2, generator=generator).tolist()
    first = [
        min(int(one * (side - own + 1)), side - own)
        for one, side, own in zip(draw, pixels.shape[-2:], size, strict=True)
    ]
    hidden = pixels.clone()
    hidden[..., first[0] : first[0] + size[0], first[1] : first[1] + size[1]] = GREY
    return hidden


def low_contrast(pixels: Tensor, level: float, generator: torch.Generator | None = None) -> Tensor:
    """Takes a share of each pixel's distance to its channel's mean away."""
    mean = pixels.mean(dim=(-2, -1), keepdim=True)
    return mean + (1 - level) * (pixels - mean)


def stripes(pixels: Tensor, level: float, generator: torch.Generator | None = None) -> Tensor:
    """Parallel stripes, by turns lighter and darker by ``level``: direction, width and place are drawn.

    Four to eight pairs over the shorter side; not clipped.
    """
    height, width = pixels.shape[-2:]
    angle, cycles, phase = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    turn = math.pi * angle
    pairs = (STRIPES[0] + (STRIPES[1] - STRIPES[0]) * cycles) / min(height, width)
    rows = torch.arange(height, dtype=torch.float64)[:, None] * math.sin(turn)
    columns = torch.arange(width, dtype=torch.float64) * math.cos(turn)
    wave = (pairs * (rows + columns) + phase) % 1
    return pixels + level * torch.where(wave < 0.5, 1.0, -1.0).to(pixels.dtype)
