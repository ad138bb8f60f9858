"""A data set as a network wants it: each image prepared, changed at random and labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pcgraph.datasets.augment import PLAIN, Augment, random_crop, shifted
from pcgraph.datasets.images import normalise
from pcgraph.datasets.noise import PIXEL_NOISES, Noise, add_gaussian, mixed_seed
from pcgraph.datasets.sources import Source
from pcgraph.errors import Fault, InputError
from pcgraph.spec import Preprocess

PixelChange = Callable[[Tensor, torch.Generator], Tensor]
"""Pixels (channels, height, width) from 0 to 1, and a generator, to changed pixels."""
_CUT, _NOISE, _CHANGE = 0, 1, 2  # each kind of draw has a stream of its own


@dataclass(frozen=True)
class Item:
    """One image of a data set.

    Attributes:
        image: (channels, height, width), float32, normalised.
        label: Its class; -1 where there are no labels.
        index: Its place in the data set that it was asked of.
    """

    image: Tensor
    label: int
    index: int


@dataclass(frozen=True, eq=False)
class ImageData(Dataset[Item]):
    """Images, prepared for one network.

    A picture is cut to the network's input (`Augment`), its pixels are changed, salt and pepper is thrown
    on it, it is normalised, and Gaussian noise is added, in this order, whatever the order of the calls
    that asked for it. All that is random in an image is drawn from generators seeded by (seed, epoch,
    place in the whole data set), so that it is the same in any batch, order or process, and in any
    subset.

    Attributes:
        source: Where the pictures come from.
        shape: (channels, height, width) of the network's input.
        preprocess: How pictures are resized and normalised.
        places: Which of the source's pictures belong to it, in order; None for all.
        augment: What is random in the cut.
        changes: Functions on pixels, applied in order.
        noise: Noise on every image.
        skip_broken: Whether `batches` leaves broken files out, or ends with an error.
        called: What it is called in results; empty: as its source.
        skipped: A fault for each broken file that was left out, in this process; shared with the subsets and
            noisy variants.
    """

    source: Source
    shape: tuple[int, int, int]
    preprocess: Preprocess
    places: NDArray[np.int64] | None = None
    augment: Augment = PLAIN
    changes: tuple[PixelChange, ...] = ()
    noise: Noise | None = None
    skip_broken: bool = False
    called: str = ""
    skipped: list[Fault] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the data set is called in results."""
        return self.called or self.source.name

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, by label; None where there are no labels."""
        return self.source.classes

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.source.classes is not None

    def __len__(self) -> int:
        return len(self.source) if self.places is None else len(self.places)

    def __getitem__(self, index: int) -> Item:
        return self.item(index)

    def label(self, index: int) -> int:
        """The class of an image, without reading the image; -1 where there are no labels."""
        return self.source.label(self._place(index))

    def item(self, index: int, seed: int = 0, epoch: int = 0) -> Item:
        """One image.

        Args:
            index: Its place, from 0.
            seed: With ``epoch`` and the image's place in the whole data set, the seed of all that is
                random in it.
            epoch: How often the data was seen before.

        Raises:
            InputError: The file is broken (says which).
            IndexError: There is no such place.
        """
        image = normalise(self.pixels(index, seed, epoch), self.preprocess)
        if self.noise is not None and self.noise.kind == "gaussian":
            image = add_gaussian(image, self.noise.level, self._generator(index, seed, epoch, _NOISE))
        return Item(image, self.label(index), index)

    def pixels(self, index: int, seed: int = 0, epoch: int = 0) -> Tensor:
        """One image before it is normalised and before Gaussian noise: (channels, height, width), 0 to 1."""
        pixels = self._cut(index, *((0, 0) if self.augment.fixed else (seed, epoch)))
        for number, change in enumerate(self.changes):
            pixels = change(pixels, self._generator(index, seed, epoch, _CHANGE + number))
        if self.noise is not None and self.noise.kind in PIXEL_NOISES:
            generator = self._generator(index, seed, epoch, _NOISE)
            pixels = PIXEL_NOISES[self.noise.kind](pixels, self.noise.level, generator)
        return pixels

    def _cut(self, index: int, seed: int, epoch: int) -> Tensor:
        """The picture, cut to the network's input."""
        place, augment = self._place(index), self.augment
        if augment == PLAIN:
            return self.source.centred(place, self.shape, self.preprocess)
        generator = self._generator(index, seed, epoch, _CUT)
        if augment.crop is None:
            pixels = self.source.centred(place, self.shape, self.preprocess)
        else:
            planes = self.source.planes(place, self.shape[0])
            pixels = random_crop(planes, self.shape, self.preprocess, augment.crop, generator)
        if augment.flip and torch.rand((), generator=generator) < 0.5:
            pixels = pixels.flip(-1)
        return shifted(pixels, augment.shift, generator) if augment.shift else pixels

    def at(self, indices: Iterable[int]) -> ImageData:
        """Some of the images; see `subset`."""
        return replace(self, places=np.array([self._place(int(index)) for index in indices], dtype=np.int64))

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return index if self.places is None else int(self.places[index])

    def _generator(self, index: int, seed: int, epoch: int, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(mixed_seed(seed, epoch, self._place(index), stream))


class Divisible(Protocol):
    """Data of which a part can be taken."""

    def __len__(self) -> int: ...

    def at(self, indices: Iterable[int]) -> Self:
        """Some of the data, in the order of ``indices``."""
        ...


D = TypeVar("D", bound=Divisible)


def subset(data: D, indices: Iterable[int]) -> D:
    """Some of the images, in the order of ``indices`` (places in ``data``).

    What is random in an image is the same as in ``data``.

    Raises:
        IndexError: There is no such place.
    """
    return data.at(indices)


def choice(images: int, limit: int, seed: int) -> list[int]:
    """A random choice of images, in their order."""
    generator = torch.Generator().manual_seed(mixed_seed(seed))
    chosen: list[int] = torch.randperm(images, generator=generator)[:limit].sort().values.tolist()
    return chosen


def split(data: D, share: float, seed: int = 0) -> tuple[D, D]:
    """Hold out a random part of the data, for validation.

    Args:
        data: What is divided.
        share: The part that is held out, from 0 to 1, rounded to whole images.
        seed: Seed of the draw.

    Returns:
        The rest, and what is held out; both in the order of ``data``.

    Raises:
        InputError: ``share`` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise InputError(Fault(f"a share of {share:g} to hold out: expected a number from 0 to 1"))
    generator = torch.Generator().manual_seed(mixed_seed(seed))
    order = torch.randperm(len(data), generator=generator).tolist()
    held = round(share * len(data))
    return subset(data, sorted(order[held:])), subset(data, sorted(order[:held]))


def noisy(data: ImageData, noise: Noise | None) -> ImageData:
    """The images with noise; what noise they had is replaced. None takes it away.

    At the same seed, the noise of two levels is the same draw, scaled.
    """
    return replace(data, noise=noise)


def augmented(data: ImageData, augment: Augment) -> ImageData:
    """The images cut at random; what was random in the cut before is replaced."""
    return replace(data, augment=augment)


def changed(data: ImageData, change: PixelChange) -> ImageData:
    """The images with a function applied to their pixels, after those that are applied already.

    Args:
        data: The images.
        change: Gets pixels (channels, height, width) from 0 to 1 and a generator of its own, and gives
            pixels of the same shape.
    """
    return replace(data, changes=(*data.changes, change))
