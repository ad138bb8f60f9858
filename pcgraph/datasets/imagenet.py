"""ImageNet and ImageNet-C as they are unpacked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pcgraph.datasets.finding import images_below, listed
from pcgraph.datasets.folders import existing, labelled
from pcgraph.datasets.imagenet_classes import class_names, wnids
from pcgraph.datasets.label_files import label_file, label_of
from pcgraph.datasets.parts import Split
from pcgraph.datasets.sources import Files
from pcgraph.errors import Fault, InputError

_SEVERITY = re.compile(r"[1-5]")


def imagenet(path: Path, part: Split) -> Files:
    """The ImageNet challenge's images, or those of some of its classes.

    Args:
        path: Holds ``train`` and ``val``, each with class folders that are named by WordNet number; or
            ``val`` with all images, and a label file that says the class of each
            (``LOC_val_solution.csv`` or ``val.txt``) in ``path`` or in ``val``. Its parent may be given
            as ``ILSVRC/Data/CLS-LOC``.
        part: ``train``, or ``test``: the images of ``val``, since those of the challenge's own test have no
            labels.

    Returns:
        Labels are the numbers that ImageNet classifiers give to the classes, also where there are only
        some of the 1,000.

    Raises:
        InputError: There is no such folder, it holds no image or a folder that is no class of ImageNet, or
            there is no label for an image.
    """
    inside = existing(path, "imagenet") / ("train" if part == "train" else "val")
    if not inside.is_dir():
        hint = "Give the folder that holds 'train' and 'val'."
        raise InputError(Fault(f"there is no folder '{inside.name}' inside", hint=hint, where=str(path)))
    _, images = listed(inside)
    if images and part == "test":
        labels = label_file((path, inside), {wnid: number for number, wnid in enumerate(wnids())})
        return Files(f"imagenet:{path}", images, [label_of(image, labels) for image in images], class_names())
    return _class_folders(f"imagenet:{path}", inside)


@dataclass(frozen=True)
class Corrupted:
    """One set of ImageNet-C.

    Attributes:
        corruption: Such as ``gaussian_noise``.
        severity: From 1 to 5.
        path: Its folder, which holds class folders.
    """

    corruption: str
    severity: int
    path: Path

    @property
    def reference(self) -> str:
        """What `open_data` calls it."""
        return f"imagenet-c:{self.path}"


def corruption_sets(path: Path) -> list[Corrupted]:
    """The corruptions and severities that there are in a folder of ImageNet-C.

    Args:
        path: Holds ``CORRUPTION/SEVERITY`` folders, directly or grouped one level down (``noise``, ``blur``,
            ...).

    Returns:
        They are sorted by corruption, then severity.

    Raises:
        InputError: There is no such folder, or there are no sets in it.
    """
    existing(path, "imagenet-c")
    found = [
        Corrupted(inside.parent.name, int(inside.name), inside)
        for pattern in ("*/*", "*/*/*")
        for inside in path.glob(pattern)
        if _SEVERITY.fullmatch(inside.name) and inside.is_dir()
    ]
    if not found:
        hint = "ImageNet-C has folders such as 'gaussian_noise/3'."
        raise InputError(Fault("there is no corrupted set inside", hint=hint, where=str(path)))
    return sorted(found, key=lambda one: (one.corruption, one.severity))


def imagenet_c(path: Path, part: Split) -> Files:
    """One corrupted set of ImageNet-C: a corruption at a severity.

    Args:
        path: The set's folder, ``.../CORRUPTION/SEVERITY``; see `corruption_sets`.
        part: There is only ``test``.

    Raises:
        InputError: It is no such folder, holds no image or a folder that is no class of ImageNet, or
            ``train`` is asked for.
    """
    if part == "train":
        raise InputError(
            Fault("ImageNet-C is for tests only", hint="Train on imagenet:PATH.", where=str(path))
        )
    if path.is_dir() and not _SEVERITY.fullmatch(path.name):
        sets = [one.reference for one in corruption_sets(path)]
        hint = f"There are {len(sets)} here, from {sets[0]} to {sets[-1]}."
        raise InputError(Fault("expected one corruption and severity", hint=hint, where=str(path)))
    return _class_folders(f"imagenet-c:{path}", existing(path, "imagenet-c"))


def _class_folders(name: str, path: Path) -> Files:
    """Class folders that are named by WordNet number."""
    numbers = {wnid: number for number, wnid in enumerate(wnids())}
    folders, _ = listed(path)
    unknown = [sub.name for sub in folders if sub.name not in numbers]
    if unknown or not folders:
        what = f"'{unknown[0]}' is no class of ImageNet" if unknown else "there are no class folders inside"
        hint = "A class folder is called like n01440764; for other classes, use folder:PATH."
        raise InputError(Fault(what, hint=hint, where=str(path)))
    files = {numbers[sub.name]: list(images_below(sub)) for sub in folders}
    return labelled(name, files, class_names())
