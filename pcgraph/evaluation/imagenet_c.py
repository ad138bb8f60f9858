"""Corrupted images as the authors of ImageNet-C made them, paired with the clean ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcgraph.datasets import ImageData, corruption_sets, open_data
from pcgraph.datasets.sources import Files
from pcgraph.errors import Fault, InputError, closest
from pcgraph.evaluation.conditions import Clean


@dataclass(frozen=True, eq=False)
class FromFolder:
    """A corruption at one severity, read from its folder.

    Attributes:
        noise: The corruption's name.
        severity: 1 to 5.
        data: The corrupted images.
        places: Where each clean image is among them.
    """

    noise: str
    severity: int
    data: ImageData
    places: Sequence[int]

    @property
    def level(self) -> float:
        """The severity."""
        return float(self.severity)

    def inputs(self, clean: Clean) -> Tensor:
        """The corrupted images."""
        return torch.stack([self.data.item(self.places[index]).image for index in clean.indices.tolist()])


def from_folder(
    path: Path, clean: ImageData, names: Sequence[str], severities: Sequence[int]
) -> list[FromFolder]:
    """The sets of ImageNet-C that are wanted, each paired with the clean images by file name.

    They are cropped already, so they stay as they are where the network's input has their size.

    Args:
        path: ImageNet-C's folder; it holds ``CORRUPTION/SEVERITY``, directly or one level down.
        clean: The clean images, from files.
        names: Corruptions.
        severities: Severities.

    Raises:
        InputError: A set is not there, or lacks an image.
    """
    if not isinstance(clean.source, Files):
        hint = "Evaluate on imagenet:PATH."
        raise InputError(Fault(f"ImageNet-C belongs to ImageNet, not to {clean.name}", hint=hint))
    there = {(one.corruption, one.severity): one for one in corruption_sets(path)}
    preprocess = clean.preprocess.model_copy(update={"resize": None})
    found = []
    for name in names:
        for severity in severities:
            if (name, severity) not in there:
                known = sorted({corruption for corruption, _ in there})
                hint = closest(name, known) if name not in known else "Choose other severities."
                raise InputError(Fault(f"there is no '{name}/{severity}' inside", hint=hint, where=str(path)))
            one = there[name, severity]
            data = open_data(one.reference, "test", shape=clean.shape, preprocess=preprocess)
            assert isinstance(data.source, Files)
            found.append(FromFolder(name, severity, data, _paired(clean, data.source.paths, one.path)))
    return found


def _paired(clean: ImageData, paths: Sequence[Path], where: Path) -> list[int]:
    """Where each clean image is among these files."""
    by_name: Mapping[str, int] = {path.stem: place for place, path in enumerate(paths)}
    assert isinstance(clean.source, Files)
    own = clean.source.paths
    wanted = [own[place].stem for place in (range(len(own)) if clean.places is None else clean.places)]
    missing = next((name for name in wanted if name not in by_name), None)
    if missing is not None:
        raise InputError(Fault(f"there is no corrupted image of '{missing}'", where=str(where)))
    return [by_name[name] for name in wanted]
