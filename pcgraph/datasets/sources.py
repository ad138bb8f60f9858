"""Where pictures come from: image files, and arrays that are held in memory."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pcgraph.datasets.images import centre_crop, load_planes, to_planes
from pcgraph.spec import Preprocess


class Source(ABC):
    """Where pictures and their labels come from.

    Attributes:
        name: What the data set is called in results.
        classes: The names of the classes, by label; None where there are no labels.
    """

    name: str
    classes: list[str] | None

    @abstractmethod
    def __len__(self) -> int:
        """The number of pictures."""

    @abstractmethod
    def label(self, index: int) -> int:
        """The class of a picture; -1 where there are no labels."""

    @abstractmethod
    def planes(self, index: int, channels: int) -> Sequence[Image.Image]:
        """The picture, one plane (mode F, values from 0 to 1) for each of 1 or 3 channels.

        Raises:
            InputError: The file is broken (says which).
        """

    def centred(self, index: int, shape: tuple[int, int, int], preprocess: Preprocess) -> Tensor:
        """The picture resized and cropped to ``shape``, as pixels from 0 to 1.

        Raises:
            InputError: The file is broken (says which).
        """
        return centre_crop(self.planes(index, shape[0]), shape, preprocess)


class Paths(Sequence[Path]):
    """File paths in one block of memory.

    A list of a million paths would slowly be copied into every process that reads ahead, since Python
    writes into each object that it looks at.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._names = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return Path(os.fsdecode(bytes(self._names[index])))


@dataclass(frozen=True, eq=False)
class Files(Source):
    """Image files, read when they are asked for.

    Attributes:
        name: What the data set is called in results.
        paths: The files.
        labels: The class of each; empty where there are none.
        classes: The names of the classes, by label; None where there are none.
    """

    name: str
    paths: Sequence[Path]
    labels: Sequence[int] | NDArray[np.int64] = ()
    classes: list[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", Paths(self.paths))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def label(self, index: int) -> int:
        """The class of a picture; -1 where there are no labels."""
        return int(self.labels[index]) if self.classes is not None else -1

    def planes(self, index: int, channels: int) -> Sequence[Image.Image]:
        """The picture, one plane (mode F) a channel."""
        return load_planes(self.paths[index], channels)


@dataclass(frozen=True, eq=False)
class Arrays(Source):
    """Small pictures of one size, all in memory.

    Attributes:
        name: What the data set is called in results.
        values: (n, height, width) for grey, (n, height, width, 3) for RGB; 0 to 255.
        labels: The class of each.
        classes: The names of the classes, by label.
    """

    name: str
    values: NDArray[np.uint8]
    labels: Sequence[int]
    classes: list[str] | None

    def __len__(self) -> int:
        return len(self.values)

    def label(self, index: int) -> int:
        """The class of a picture."""
        return self.labels[index]

    def planes(self, index: int, channels: int) -> Sequence[Image.Image]:
        """The picture, one plane (mode F) a channel."""
        return to_planes(Image.fromarray(self.values[index]), channels, f"{self.name}[{index}]")

    def centred(self, index: int, shape: tuple[int, int, int], preprocess: Preprocess) -> Tensor:
        """As for any source; without a detour where the pictures have that shape already."""
        own = tuple(self._pixels.shape[1:])
        if shape != own or (preprocess.resize or 0) > min(own[1:]):
            return super().centred(index, shape, preprocess)
        return self._pixels[index] / 255

    @cached_property
    def _pixels(self) -> Tensor:
        """The values as (n, channels, height, width)."""
        values = torch.from_numpy(self.values)
        return values.unsqueeze(1) if values.ndim == 3 else values.permute(0, 3, 1, 2)
