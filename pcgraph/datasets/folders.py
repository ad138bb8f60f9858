"""Folders of images: class folders, or just images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pcgraph.datasets.classes import Classes, names_of, numbered, numbers_of
from pcgraph.datasets.finding import images_below, listed
from pcgraph.datasets.formats import SUFFIXES
from pcgraph.datasets.parts import Split, in_order, parts, refuse_packed
from pcgraph.datasets.sources import Files
from pcgraph.errors import Fault, InputError, closest


def folder(path: Path, part: Split, classes: Classes | None = None) -> Files:
    """Images in class folders, or just images.

    Args:
        path: Holds a folder for each class, whose images (those in folders inside included) belong to it;
            or images, which then have no labels. Where it holds ``train`` beside ``test``, ``val``,
            ``valid``, ``validate``, ``validation``, ``dev`` or ``eval``, those are the parts, and a class of
            either counts in both; otherwise both parts are all images.
        part: Which part.
        classes: The names of the classes by label. Left out: the folders' names, as numbers if all are whole
            numbers, else as text.

    Raises:
        InputError: There is no such folder, it holds no image, images beside folders of images, or it cannot
            be told what the folders are.
    """
    name = f"folder:{path}"
    divided = parts(existing(path, "folder"))
    inside = divided[part]
    folders, images = listed(inside)
    filled = {sub.name: files for sub in folders if (files := list(images_below(sub)))}
    if not filled and not images:
        hint = f"An image ends in {', '.join(SUFFIXES)}."
        raise InputError(Fault("this folder holds no image", hint=hint, where=str(inside)))
    if images and filled:
        message = f"images ('{images[0].name}') beside folders of images ('{next(iter(filled))}')"
        hint = "Give a folder of class folders, or a folder of images alone, which have no labels."
        raise InputError(Fault(message, hint=hint, where=str(inside)))
    others = {sub.name for each in set(divided.values()) - {inside} for sub in listed(each)[0]}
    if not filled and others:
        message = "images without class folders, which the other part has"
        hint = f"Give the folder itself, folder:{inside}, if its images shall have no labels."
        raise InputError(Fault(message, hint=hint, where=str(inside)))
    if not filled:
        return Files(name, images)
    if classes is None:
        refuse_packed((sub for sub in folders if sub.name in filled), inside)
        ordered = in_order(filled.keys() | others, path)
        numbers: Mapping[str, int] = numbered(ordered)
    else:
        ordered, numbers = names_of(classes), numbers_of(classes, filled, str(inside))
    by_label = {numbers[sub]: filled[sub] for sub in sorted(filled, key=numbers.__getitem__)}
    return labelled(name, by_label, ordered)


def images_in(path: Path) -> list[Path]:
    """All images in a folder and the folders inside, sorted by name.

    Raises:
        InputError: There is no such folder, or it holds no image.
    """
    found = list(images_below(existing(path, "folder")))
    if not found:
        hint = f"An image ends in {', '.join(SUFFIXES)}."
        raise InputError(Fault("this folder holds no image", hint=hint, where=str(path)))
    return found


def existing(path: Path, kind: str) -> Path:
    """The folder, which is there.

    Raises:
        InputError: It is not; ``kind`` says how its name is written.
    """
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(Fault("expected a folder", where=str(path)))
    near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = closest(path.name, near)
    hint = hint if hint.startswith("Did") else f"Write {kind}:PATH with the path of a folder."
    raise InputError(Fault("there is no such folder", hint=hint, where=str(path)))


def labelled(name: str, files: dict[int, list[Path]], classes: list[str]) -> Files:
    """Image files, given by their labels."""
    paths = [path for label in files for path in files[label]]
    labels = [label for label in files for _ in files[label]]
    return Files(name, paths, labels, classes)
