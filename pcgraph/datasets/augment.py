"""Random crops, shifts and mirror images, drawn from a generator that the caller seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from pcgraph.datasets.images import image_shape, to_pixels
from pcgraph.errors import Fault, InputError
from pcgraph.spec import Preprocess

_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class Augment:
    """What is changed at random in each picture.

    Attributes:
        crop: Least and greatest share of the picture's area that a random crop takes; its sides have a
            ratio from 3/4 to 4/3, and it is resized to the network's input. None: the usual resize and
            centre crop.
        flip: Whether half of the pictures are mirrored, left to right.
        shift: The picture is moved by up to so many pixels of the network's input, in each direction;
            black moves in.
        fixed: The draw is the same for every seed and epoch, as for test images.

    Raises:
        InputError: ``crop`` are no shares, or ``shift`` is negative.
    """

    crop: tuple[float, float] | None = None
    flip: bool = False
    shift: int = 0
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise InputError(Fault(f"crop {self.crop}: expected two shares from 0 to 1, the smaller first"))
        if self.shift < 0:
            raise InputError(Fault(f"shift {self.shift}: expected a number of pixels from 0 on"))


PLAIN = Augment()
"""Nothing at random."""


def random_crop(
    planes: Sequence[Image.Image],
    shape: Sequence[int],
    preprocess: Preprocess,
    shares: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Cut a random part out of a picture and resize it to a network's input.

    Args:
        planes: The picture, one plane (mode F, values from 0 to 1) a channel.
        shape: (channels, height, width) of the result.
        preprocess: Its ``interpolation``.
        shares: Least and greatest share of the picture's area.
        generator: Where the part is drawn from.

    Returns:
        Pixels from 0 to 1 (channels, height, width), float32.
    """
    _, height, width = image_shape(shape)
    box = random_box(planes[0].size, shares, generator)
    how = Image.Resampling[preprocess.interpolation.upper()]
    return to_pixels([plane.resize((width, height), how, box=box) for plane in planes])


def random_box(
    size: tuple[int, int], shares: tuple[float, float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """A random part of a picture, drawn as torchvision's ``RandomResizedCrop`` draws it.

    The area is uniform in ``shares``, and the logarithm of the ratio of the sides is uniform from
    log 3/4 to log 4/3; a part that does not fit is drawn again. After ten times the largest part in the
    centre that has an allowed ratio is taken.

    Args:
        size: (width, height) of the picture.
        shares: Least and greatest share of its area.
        generator: Where it is drawn from.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in _RATIOS)
    for _ in range(_TRIES):
        draw = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area = width * height * (shares[0] + draw[0] * (shares[1] - shares[0]))
        ratio = math.exp(low + draw[1] * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draw[2] * (width - w + 1)), int(draw[3] * (height - h + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < _RATIOS[0]:
        h = round(width / _RATIOS[0])
    elif width / height > _RATIOS[1]:
        w = round(height * _RATIOS[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def shifted(pixels: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """``pixels`` moved by up to ``most`` pixels down or up and right or left; black moves in."""
    height, width = pixels.shape[-2:]
    down, right = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
    padded = torch.nn.functional.pad(pixels, (most, most, most, most))
    return padded[..., most - down : most - down + height, most - right : most - right + width]
