"""A feedforward denoiser in front of a backbone, as large and as costly as an arm's feedback."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcgraph.building.network import build, seed_of
from pcgraph.network import PCNetwork
from pcgraph.spec import Node, Spec
from pcgraph.spec.weights import Checkpoint
from pcgraph.tracing.backbone import load_backbone

KERNEL, MOST_FOLD = 3, 8
NEAR = 1.1
"""A factor by which numbers of weights and of multiply-adds may be missed."""
PLACE = "denoiser"


@dataclass(frozen=True)
class Size:
    """The size of a denoiser.

    Attributes:
        width: Channels between its first and its last convolution.
        repeats: How often the convolution between these is applied, with the same weights.
        fold: Blocks of fold x fold pixels become channels first, and pixels again in the end.
    """

    width: int
    repeats: int
    fold: int

    def parameters(self, channels: int) -> int:
        """Its weights, for images of so many channels."""
        ends, square = channels * self.fold**2, KERNEL**2
        return square * (2 * ends + self.width) * self.width + 2 * self.width + ends

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        """For one image of this shape (channels, height, width), biases not counted."""
        channels, height, width = shape
        ends, places = channels * self.fold**2, height * width // self.fold**2
        return places * KERNEL**2 * self.width * (2 * ends + self.repeats * self.width)

    def plain(self) -> dict[str, int]:
        """The same as plain values."""
        return asdict(self)


def size_like(shape: tuple[int, ...], parameters: int, multiply_adds: int) -> Size:
    """A denoiser with about so many weights and multiply-adds.

    Of all that there are for such images, those with the smallest fold that has one which misses neither
    number by more than a factor of 1.1, up or down, else all; and of these the one whose larger factor is
    least.

    Args:
        shape: (channels, height, width) of the images.
        parameters: Weights.
        multiply_adds: For one image.
    """

    def misfit(size: Size) -> float:
        found = size.parameters(shape[0]), size.multiply_adds(shape)
        return max(abs(math.log(f / a)) for f, a in zip(found, (parameters, multiply_adds), strict=True))

    folds = [f for f in range(1, MOST_FOLD + 1) if shape[1] % f == 0 and shape[2] % f == 0]
    nearest = [min(_sizes(shape, fold, parameters, multiply_adds), key=misfit) for fold in folds]
    near = (size for size in nearest if misfit(size) <= math.log(NEAR))
    return next(near, min(nearest, key=misfit))


def _sizes(shape: tuple[int, ...], fold: int, parameters: int, multiply_adds: int) -> Iterator[Size]:
    """The two widths about the wanted weights, each with the two repeats about the wanted multiply-adds."""
    width = 1
    while Size(width + 1, 1, fold).parameters(shape[0]) <= parameters:
        width += 1
    for wide in (width, width + 1):
        once, twice = (Size(wide, times, fold).multiply_adds(shape) for times in (1, 2))
        repeats = max(1, 1 + (multiply_adds - once) // (twice - once))
        yield from (Size(wide, times, fold) for times in (repeats, repeats + 1))


class Denoiser(nn.Module):
    """Adds to an image what a few convolutions make of it (residual, as DnCNN: Zhang et al. 2017).

    At first it adds nothing: its last weights are 0. The convolution in the middle is applied several times
    with the same weights, ``h + relu(conv(h)) / repeats``: as with feedback, weights are used often.

    Args:
        channels: Of the images.
        size: How large.
    """

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.size = size
        ends = channels * size.fold**2
        self.first = nn.Conv2d(ends, size.width, KERNEL, padding=1)
        self.middle = nn.Conv2d(size.width, size.width, KERNEL, padding=1)
        self.last = nn.Conv2d(size.width, ends, KERNEL, padding=1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, image: Tensor) -> Tensor:
        """Images (batch, channels, height, width), without their noise."""
        folded = F.pixel_unshuffle(image, self.size.fold) if self.size.fold > 1 else image
        hidden = torch.relu(self.first(folded))
        for _ in range(self.size.repeats):
            hidden = hidden + torch.relu(self.middle(hidden)) / self.size.repeats
        found = self.last(hidden)
        return image + (F.pixel_shuffle(found, self.size.fold) if self.size.fold > 1 else found)


class Denoised(nn.Module):
    """A backbone that sees what a denoiser leaves of its images.

    Args:
        denoiser: What comes first.
        backbone: What comes then.
        constants: What the backbone's forward is given besides the image.
    """

    def __init__(self, denoiser: Denoiser, backbone: nn.Module, constants: Mapping[str, Any]) -> None:
        super().__init__()
        self.denoiser, self.backbone, self.constants = denoiser, backbone, dict(constants)

    def forward(self, image: Tensor) -> Any:
        """The backbone's output."""
        return self.backbone(self.denoiser(image), **self.constants)


def without_feedback(
    spec: Spec, size: Size | None, *, seed: int, trust: bool = False, weights: Path | None = None
) -> PCNetwork:
    """The network of a control: the backbone, or a denoiser, a node, and the backbone behind it.

    Args:
        spec: The plain network's.
        size: The denoiser's; None for the backbone alone.
        seed: Of first weights.
        trust: Whether ``python:`` references may be imported.
        weights: Those that the whole has learned.
    """
    assert spec.backbone is not None
    learned = {} if weights is None else {"weights": Checkpoint(file=str(weights)), "match": "name"}
    if size is None:
        own = spec.model_copy(update={"backbone": spec.backbone.model_copy(update=learned)})
        return build(own, trust=trust, seed=seed, verify=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone, constants = load_backbone(spec.backbone, None, trust=trust, folder=spec.folder)
        torch.manual_seed(seed_of(seed, PLACE))
        model = Denoised(Denoiser(spec.backbone.input[0], size), backbone, constants)
    fields = {"model": None, "weights": None, "arguments": {}, **learned}
    own = Spec(
        name=spec.name,
        backbone=spec.backbone.model_copy(update=fields),
        nodes={"denoised": Node(module=PLACE)},
    )
    return build(own, model, trust=trust, seed=seed, verify=False)


def learns_alone(network: PCNetwork) -> None:
    """Let the denoiser of a control learn, and nothing else."""
    assert network.drive is not None
    for name, weight in network.drive.model.named_parameters():
        weight.requires_grad_(name.startswith(f"{PLACE}."))
