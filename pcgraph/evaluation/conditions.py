"""What the images of an evaluation go through before the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pcgraph.datasets.images import denormalise, normalise
from pcgraph.datasets.noise import PIXEL_NOISES, Noise, add_gaussian, mixed_seed
from pcgraph.errors import Fault, InputError, closest
from pcgraph.evaluation.corruptions import BENCHMARK, CORRUPTIONS, SEVERITIES, corrupt
from pcgraph.scheduler import Scheduler
from pcgraph.spec import Preprocess

CLEAN = "clean"


@dataclass(frozen=True)
class Clean:
    """A batch of clean images, and what the network makes of them.

    Attributes:
        images: (batch, channels, height, width), normalised.
        labels: (batch,) int64; -1 without a label.
        indices: (batch,) places in the data.
        answers: (steps + 1, batch) the class that the network gives at each step.
        scheduler: Of the network.
        preprocess: How pixels were normalised.
        seed: Of the evaluation.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    answers: Tensor
    scheduler: Scheduler
    preprocess: Preprocess
    seed: int

    @property
    def pixels(self) -> Tensor:
        """The images before normalisation, from 0 to 1."""
        return denormalise(self.images, self.preprocess).clamp(0, 1)

    def part(self, place: int) -> Clean:
        """One image of the batch, as a batch."""
        one = slice(place, place + 1)
        return replace(
            self,
            images=self.images[one],
            labels=self.labels[one],
            indices=self.indices[one],
            answers=self.answers[:, one],
        )


class Condition(Protocol):
    """One noise at one level.

    Attributes:
        noise: Its kind: ``gaussian``, a corruption's name, an attack such as ``pgd@4``, ...
        level: Its strength: sigma, a share, a severity, epsilon.
    """

    @property
    def noise(self) -> str:
        """Its kind."""
        ...

    @property
    def level(self) -> float:
        """Its strength."""
        ...

    def inputs(self, clean: Clean) -> Tensor:
        """The images as the network shall see them (batch, channels, height, width), normalised."""
        ...


def key(condition: Condition) -> str:
    """What a condition is called in files: ``gaussian:0.5``."""
    return f"{condition.noise}:{condition.level:g}"


def from_key(text: str) -> tuple[str, float]:
    """The noise and the level that `key` wrote."""
    noise, _, level = text.rpartition(":")
    return noise, float(level)


@dataclass(frozen=True)
class NoNoise:
    """The images as they are."""

    noise: str = CLEAN
    level: float = 0.0

    def inputs(self, clean: Clean) -> Tensor:
        """The clean images."""
        return clean.images


@dataclass(frozen=True)
class Noisy:
    """Gaussian noise on the normalised input, or what happens to pixels before the normalisation.

    An image gets the same draws at every level.
    """

    kind: Noise

    @property
    def noise(self) -> str:
        """The kind of noise."""
        return self.kind.kind

    @property
    def level(self) -> float:
        """See `Noise.level`."""
        return self.kind.level

    def inputs(self, clean: Clean) -> Tensor:
        """The images with noise of their own each."""
        noisy = []
        for image, index in zip(clean.images, clean.indices.tolist(), strict=True):
            generator = torch.Generator().manual_seed(mixed_seed(clean.seed, index))
            if self.noise == "gaussian":
                noisy.append(add_gaussian(image, self.level, generator))
            else:
                pixels = denormalise(image, clean.preprocess)
                noisy.append(
                    normalise(PIXEL_NOISES[self.noise](pixels, self.level, generator), clean.preprocess)
                )
        return torch.stack(noisy)


@dataclass(frozen=True)
class Corrupted:
    """A corruption of ImageNet-C, computed on the crop in 8 bits, before the normalisation.

    Attributes:
        noise: The corruption's name.
        severity: 1 to 5.
    """

    noise: str
    severity: int

    @property
    def level(self) -> float:
        """The severity."""
        return float(self.severity)

    def inputs(self, clean: Clean) -> Tensor:
        """The corrupted images."""
        pixels = (clean.pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        corrupted = [
            corrupt(image, self.noise, self.severity, clean.seed, index)
            for image, index in zip(pixels, clean.indices.tolist(), strict=True)
        ]
        found = torch.from_numpy(np.stack(corrupted)).permute(0, 3, 1, 2).float() / 255
        return normalise(found, clean.preprocess)


def parse_noise(text: str) -> list[Noisy]:
    """Read ``gaussian:0.25,0.5``, ``blur:1`` and so on: a kind and its levels.

    Raises:
        InputError: It is none of these.
    """
    kind, _, levels = text.partition(":")
    return [Noisy(Noise.parse(f"{kind}:{level}")) for level in levels.split(",")]


def parse_corruptions(text: str) -> list[str]:
    """Read names of corruptions with commas between them; ``all`` are 19, ``benchmark`` the 15 of the mCE.

    Raises:
        InputError: There is no such corruption.
    """
    names: list[str] = []
    for name in text.split(","):
        group = {"all": CORRUPTIONS, "benchmark": BENCHMARK}.get(name, (name,))
        if group == (name,) and name not in CORRUPTIONS:
            hint = closest(name, (*CORRUPTIONS, "all", "benchmark"))
            raise InputError(Fault(f"there is no corruption '{name}'", hint=hint))
        names += group
    return list(dict.fromkeys(names))


def parse_numbers(text: str, what: str) -> list[float]:
    """Read numbers with commas between them.

    Raises:
        InputError: One is no number.
    """
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(Fault(f"{what}: expected numbers with commas between them, got '{text}'")) from None


def parse_severities(text: str) -> list[int]:
    """Read severities such as ``1,3,5``.

    Raises:
        InputError: One is not a whole number from 1 to 5.
    """
    found = parse_numbers(text, "--severity")
    wrong = [number for number in found if number not in SEVERITIES]
    if wrong:
        raise InputError(Fault(f"--severity: expected whole numbers from 1 to 5, got {wrong[0]:g}"))
    return [int(number) for number in found]


def distinct(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions without repetitions, in their order, the clean images first.

    The clean images are always among them, since the answers to them are what agreement is judged by.
    """
    return list({key(condition): condition for condition in (NoNoise(), *conditions)}.values())
