"""Crops of photographs that are free to use: enough to train feedback on a laptop, and to show it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from pcgraph.datasets.augment import Augment
from pcgraph.datasets.folders import images_in
from pcgraph.datasets.images import load_planes
from pcgraph.datasets.parts import Split
from pcgraph.datasets.sources import Source
from pcgraph.errors import Fault, InputError
from pcgraph.files.shipped import photo, photos

TRAIN = ("astronaut.png", "motorcycle_left.png", "motorcycle_right.png")
"""Colour photographs that scikit-image ships and that are not among pcgraph's own, which are for tests."""
CROPS: dict[Split, int] = {"train": 64, "test": 32}
"""Crops of each photograph in an epoch."""
CUTS: dict[Split, Augment] = {
    "train": Augment(crop=(0.08, 1.0), flip=True),
    "test": Augment(crop=(0.3, 1.0), fixed=True),
}
"""How they are cut; those for tests are always the same."""


@dataclass(frozen=True, eq=False)
class Photographs(Source):
    """Several crops of each of some photographs; which part each takes is drawn later.

    Attributes:
        name: What the data set is called in results.
        paths: The photographs.
        crops: How many crops of each.
        classes: There are no labels.
    """

    name: str
    paths: Sequence[Path]
    crops: int
    classes: list[str] | None = None

    def __len__(self) -> int:
        return self.crops * len(self.paths)

    def label(self, index: int) -> int:
        """There are no labels: -1."""
        return -1

    def planes(self, index: int, channels: int) -> Sequence[Image.Image]:
        """The whole photograph, one plane (mode F) a channel."""
        return _planes(self.paths[index % len(self.paths)], channels)


def photographs(extra: Path | None, part: Split) -> Photographs:
    """Crops of photographs: in the test part pcgraph's own, in training those of scikit-image.

    No photograph is in both parts.

    Args:
        extra: A folder of more photographs to train on.
        part: Which part.

    Raises:
        InputError: scikit-image is not installed and there is no other photograph to train on, or
            ``extra`` is no folder of images.
    """
    if part == "test":
        return Photographs("photos", [photo(name) for name in photos()], CROPS[part])
    paths = [path for name in TRAIN if (path := _SCIKIT_IMAGE / name).is_file()] if _SCIKIT_IMAGE else []
    paths += images_in(extra) if extra is not None else []
    if not paths:
        hint = "pip install 'pcgraph[data]', or give a folder of your own: photos:PATH."
        raise InputError(
            Fault("the photographs to train on come with scikit-image, which is missing", hint=hint)
        )
    return Photographs("photos" if extra is None else f"photos:{extra}", paths, CROPS[part])


def _scikit_image() -> Path | None:
    """The folder of scikit-image's photographs, without importing it."""
    package = importlib.util.find_spec("skimage")
    return None if package is None or package.origin is None else Path(package.origin).parent / "data"


_SCIKIT_IMAGE = _scikit_image()


@lru_cache(maxsize=16)
def _planes(path: Path, channels: int) -> list[Image.Image]:
    """A photograph, kept, since each is cut many times."""
    return load_planes(path, channels)
