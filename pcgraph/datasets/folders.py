"""Folders of images: class folders, ImageNet and ImageNet-C as they are unpacked, or just images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pcgraph.datasets.images import SUFFIXES
from pcgraph.datasets.sources import Files
from pcgraph.errors import Fault, InputError, closest

Split = Literal["train", "test"]
_WNIDS = Path(__file__).parent.parent / "data" / "imagenet" / "wnids.txt"
_PARTS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}
_LABEL_FILES = ("LOC_val_solution.csv", "val.txt")
_SEVERITY = re.compile(r"[1-5]")


def folder(path: Path, part: Split) -> Files:
    """Images in class folders, or just images.

    Args:
        path: Holds a folder for each class, whose images (those in folders inside included) belong to it;
            or images, which then have no labels. Where it holds ``train`` beside ``test`` or ``val``, those
            are the two parts, and a class of either counts in both; otherwise both parts are all images.
        part: Which part.

    Raises:
        InputError: There is no such folder, it holds no image, or images beside folders of images.
    """
    name = f"folder:{path}"
    parts = _parts(_existing(path, "folder"))
    inside = parts[part]
    folders, images = _listed(inside)
    filled = {sub.name: files for sub in folders if (files := list(_images_below(sub)))}
    if not filled and not images:
        hint = f"An image ends in {', '.join(SUFFIXES)}."
        raise InputError(Fault("this folder holds no image", hint=hint, where=str(inside)))
    if not filled:
        return Files(name, images)
    if images:
        message = f"images ('{images[0].name}') beside folders of images ('{next(iter(filled))}')"
        hint = "Give a folder of class folders, or a folder of images alone, which have no labels."
        raise InputError(Fault(message, hint=hint, where=str(inside)))
    others = {sub.name for each in set(parts.values()) - {inside} for sub in _listed(each)[0]}
    classes = sorted(filled.keys() | others)
    return _labelled(name, {classes.index(sub): files for sub, files in filled.items()}, classes)


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
    inside = _existing(path, "imagenet") / ("train" if part == "train" else "val")
    if not inside.is_dir():
        hint = "Give the folder that holds 'train' and 'val'."
        raise InputError(Fault(f"there is no folder '{inside.name}' inside", hint=hint, where=str(path)))
    _, images = _listed(inside)
    if images and part == "test":
        labels = _label_file(path, inside)
        return Files(
            f"imagenet:{path}", images, [_label_of(image, labels) for image in images], class_names()
        )
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
    _existing(path, "imagenet-c")
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
    return _class_folders(f"imagenet-c:{path}", _existing(path, "imagenet-c"))


def wnids() -> list[str]:
    """The WordNet numbers of ImageNet's 1,000 classes, by label."""
    return _WNIDS.read_text(encoding="ascii").split()


def class_names() -> list[str]:
    """The names of ImageNet's 1,000 classes, by label."""
    from pcgraph.tracing.models import imagenet_categories

    return imagenet_categories()


def images_in(path: Path) -> list[Path]:
    """All images in a folder and the folders inside, sorted by name.

    Raises:
        InputError: There is no such folder, or it holds no image.
    """
    found = list(_images_below(_existing(path, "folder")))
    if not found:
        hint = f"An image ends in {', '.join(SUFFIXES)}."
        raise InputError(Fault("this folder holds no image", hint=hint, where=str(path)))
    return found


def _existing(path: Path, kind: str) -> Path:
    if path.is_dir():
        return path
    near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = closest(path.name, near)
    hint = hint if hint.startswith("Did") else f"Write {kind}:PATH with the path of a folder."
    raise InputError(Fault("there is no such folder", hint=hint, where=str(path)))


def _parts(path: Path) -> dict[Split, Path]:
    """The folder of each part; all are ``path`` where it is not divided."""
    found = {
        part: [path / name for name in names if (path / name).is_dir()] for part, names in _PARTS.items()
    }
    return {part: folders[0] if all(found.values()) else path for part, folders in found.items()}


def _listed(path: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the images in a folder, each sorted by name."""
    folders, images = [], []
    with os.scandir(path) as entries:  # it knows folders from files without a look at each
        for entry in entries:
            if entry.is_dir():
                folders.append(path / entry.name)
            elif entry.name.lower().endswith(SUFFIXES):
                images.append(path / entry.name)
    return sorted(one for one in folders if not one.name.startswith(".")), sorted(images)


def _images_below(path: Path) -> Iterator[Path]:
    folders, images = _listed(path)
    yield from images
    for inside in folders:
        yield from _images_below(inside)


def _class_folders(name: str, path: Path) -> Files:
    """Class folders that are named by WordNet number."""
    numbers = {wnid: number for number, wnid in enumerate(wnids())}
    folders, _ = _listed(path)
    unknown = [sub.name for sub in folders if sub.name not in numbers]
    if unknown or not folders:
        what = f"'{unknown[0]}' is no class of ImageNet" if unknown else "there are no class folders inside"
        hint = "A class folder is called like n01440764; for other classes, use folder:PATH."
        raise InputError(Fault(what, hint=hint, where=str(path)))
    files = {numbers[sub.name]: list(_images_below(sub)) for sub in folders}
    return _labelled(name, files, class_names())


def _labelled(name: str, files: dict[int, list[Path]], classes: list[str]) -> Files:
    paths = [path for label in files for path in files[label]]
    labels = [label for label in files for _ in files[label]]
    return Files(name, paths, labels, classes)


def _label_file(path: Path, inside: Path) -> dict[str, int]:
    """The labels of images that stand in one folder, by the images' names without suffix.

    Each line holds a name, and a WordNet number or a label; what follows on the line (Kaggle's file lists
    the boxes) is left.
    """
    candidates = [place / name for place in (path, inside) for name in _LABEL_FILES]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        hint = f"Put {' or '.join(_LABEL_FILES)} beside it, or the images into class folders."
        raise InputError(
            Fault("images without class folders and without a label file", hint=hint, where=str(inside))
        )
    numbers = {wnid: number for number, wnid in enumerate(wnids())}
    labels: dict[str, int] = {}
    for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        words = re.split(r"[,\s]+", text.strip())
        if words in ([""], ["ImageId", "PredictionString"]):
            continue
        label = numbers.get(words[1], -1) if len(words) > 1 else -1
        if len(words) > 1 and words[1].isdecimal():
            label = int(words[1])
        if not 0 <= label < len(numbers):
            message = f"expected an image's name and its class (n01440764, or 0 to 999), got '{text}'"
            raise InputError(Fault(message, where=f"{file}:{line}"))
        labels[Path(words[0]).stem] = label
    return labels


def _label_of(image: Path, labels: dict[str, int]) -> int:
    if image.stem not in labels:
        raise InputError(Fault("the label file does not name this image", where=str(image)))
    return labels[image.stem]
