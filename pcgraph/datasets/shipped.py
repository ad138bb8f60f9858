"""The data that comes with pcgraph: small enough to ship, real enough to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcgraph.datasets.parts import Split
from pcgraph.datasets.sources import Arrays

_DIGITS = Path(__file__).parent.parent / "data" / "digits" / "digits.npz"


@dataclass(frozen=True)
class Dataset:
    """Images with their classes, in a fixed split.

    Attributes:
        train_images: (n, channels, height, width), float32 from 0 to 1.
        train_labels: (n,), int64.
        test_images: The same, held out.
        test_labels: The same, held out.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits() -> Dataset:
    """4,000 + 1,000 handwritten digits of MNIST, 28 x 28 pixels, all ten digits equally often.

    The same images in the same order on every call; the folder of the file says where they come from.
    """
    with np.load(_DIGITS, allow_pickle=False) as file:
        tensors = {name: torch.from_numpy(file[name]) for name in file.files}
    return Dataset(
        train_images=tensors["train_images"].unsqueeze(1).float() / 255,
        train_labels=tensors["train_labels"].long(),
        test_images=tensors["test_images"].unsqueeze(1).float() / 255,
        test_labels=tensors["test_labels"].long(),
    )


def digit_arrays(part: Split) -> Arrays:
    """The digits of `digits` as pictures."""
    with np.load(_DIGITS, allow_pickle=False) as file:
        images, labels = file[f"{part}_images"], file[f"{part}_labels"]
    return Arrays("digits", images, labels.tolist(), [str(digit) for digit in range(10)])
