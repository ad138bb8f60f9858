"""Noise on images, and the seeds that its numbers depend on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from pcgraph.datasets.distortions import blur, low_contrast, low_frequency, occlusion, stripes
from pcgraph.errors import Fault, InputError, closest

Kind = Literal["gaussian", "salt_pepper", "blur", "low_frequency", "occlusion", "low_contrast", "stripes"]
MOST = {"salt_pepper": 1.0, "occlusion": 1.0, "low_contrast": 1.0, "blur": 64.0}
"""Highest levels; of other kinds there is none."""


@dataclass(frozen=True)
class Noise:
    """Noise on images.

    Attributes:
        kind: ``gaussian``: numbers of standard deviation ``level`` are added to the normalised input,
            which is not clipped afterwards. ``salt_pepper``: a share ``level`` of the pixels, all
            channels alike, turns black or white, half of them each, before the normalisation. The others
            change pixels, too, see `pcgraph.datasets.distortions`.
        level: At 0 nothing changes. ``gaussian``: sigma; ``salt_pepper``, ``occlusion``, ``low_contrast``: a
            share; ``blur``: sigma in pixels; ``low_frequency``, ``stripes``: what is added to pixels.
    """

    kind: Kind
    level: float

    @classmethod
    def parse(cls, text: str) -> Noise:
        """Read ``gaussian:SIGMA``, ``salt_pepper:P``, ``blur:SIGMA`` and so on.

        Raises:
            InputError: It is none of these.
        """
        kind, _, number = text.partition(":")
        if kind not in get_args(Kind):
            hint = closest(kind, get_args(Kind))
            raise InputError(Fault(f"noise '{text}': unknown kind '{kind}'", hint=hint))
        try:
            level = float(number)
        except ValueError:
            level = math.nan
        most = MOST.get(kind)
        if not (0 <= level < math.inf and (most is None or level <= most)):
            what = "a share" if most == 1 else "a number"
            expected = f"{what} from 0 {'on' if most is None else f'to {most:g}'}"
            got = f"'{number}'" if number else "nothing"
            raise InputError(
                Fault(
                    f"noise '{text}': expected {expected} after '{kind}:', got {got}",
                    hint=f"For example {kind}:0.5.",
                )
            )
        return cls(cast(Kind, kind), level)

    def __str__(self) -> str:
        return f"{self.kind}:{self.level:g}"


def add_gaussian(values: Tensor, sigma: float, generator: torch.Generator | None = None) -> Tensor:
    """``values`` plus independent normal numbers of standard deviation ``sigma``."""
    return values + sigma * torch.randn(values.shape, generator=generator, dtype=values.dtype)


def salt_and_pepper(pixels: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """``pixels`` (..., channels, height, width) with a share of them black (0) or white (1)."""
    draw = torch.rand((*pixels.shape[:-3], 1, *pixels.shape[-2:]), generator=generator)
    return torch.where(draw < share / 2, 0.0, torch.where(draw < share, 1.0, pixels))


PIXEL_NOISES: dict[str, Callable[[Tensor, float, torch.Generator | None], Tensor]] = {
    "salt_pepper": salt_and_pepper,
    "blur": blur,
    "low_frequency": low_frequency,
    "occlusion": occlusion,
    "low_contrast": low_contrast,
    "stripes": stripes,
}
"""What happens to pixels (channels, height, width) before the normalisation, by kind."""


def mixed_seed(*numbers: int) -> int:
    """One seed made of several numbers, such as a seed and an image's place.

    Seeds in a row would make every image's noise that of the next seed's.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
