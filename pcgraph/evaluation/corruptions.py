"""The 19 corruptions of ImageNet-C, computed on the fly (Hendrycks and Dietterich, 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcgraph.datasets.noise import mixed_seed
from pcgraph.errors import Fault, InputError

BENCHMARK = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The 15 that the mean corruption error is made of."""
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four that the authors keep for validation."""
CORRUPTIONS = (*BENCHMARK, *EXTRA)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32
"""Least height and width, in pixels, that the definitions have a meaning for."""
SEEDED = ("glass_blur", "impulse_noise")
"""Those that draw from a generator of their own and not from numpy's global one."""

Pixels = NDArray[np.uint8]


def corrupt(pixels: Pixels, name: str, severity: int, seed: int, index: int) -> Pixels:
    """Corrupt one image.

    The result depends on the arguments alone, not on the batch, the process or what was drawn before.

    Args:
        pixels: (height, width, channels), 1 or 3 channels, from 0 to 255: the crop that the network sees.
        name: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Seed of the evaluation.
        index: The image's place in its data.

    Raises:
        InputError: The corruption library is not installed, or the image is too small.
    """
    library = check_available()
    check_size(pixels.shape[:2])
    number = mixed_seed(seed, index, CORRUPTIONS.index(name), severity) % 2**32
    own = {"seed": number} if name in SEEDED else {}
    with _global_seed(number):
        result: Pixels = np.asarray(library(pixels, severity, name, **own), dtype=np.uint8)
    if pixels.shape[2] == 1:  # the library answers in colour
        result = np.asarray(Image.fromarray(result).convert("L"))[..., None]
    return result


def check_available() -> Callable[..., Any]:
    """The library's function.

    Raises:
        InputError: It is not installed.
    """
    try:
        from imagecorruptions import corrupt as library
    except ImportError:
        raise InputError(
            Fault(
                "computing corruptions needs imagecorruptions-imaug, which is not installed",
                hint="pip install 'pcgraph[evaluate]', or give the folder of ImageNet-C.",
            )
        ) from None
    function: Callable[..., Any] = library
    return function


def check_size(size: tuple[int, ...]) -> None:
    """Make sure that corruptions are defined for images of this height and width.

    Raises:
        InputError: They are not.
    """
    if min(size) < SMALLEST:
        shown = " x ".join(map(str, size))
        message = f"corruptions need at least {SMALLEST} x {SMALLEST} pixels; the images have {shown}"
        raise InputError(Fault(message, hint="Use --noise for small images."))


@contextmanager
def _global_seed(number: int) -> Iterator[None]:
    """Seed numpy's global generator, which the library draws from, and put it back as it was."""
    before = np.random.get_state()
    np.random.seed(number)
    try:
        yield
    finally:
        np.random.set_state(before)
