"""The order of classes: what a network's answers mean, and so which label an image of a class has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pcgraph.datasets.imagenet_classes import class_names, wnids
from pcgraph.datasets.label_files import text_lines
from pcgraph.datasets.sources import Source
from pcgraph.errors import Fault, InputError, closest
from pcgraph.spec import Spec
from pcgraph.spec.backbone import IMAGENET

Classes = Sequence[str]
"""Names by label, or `IMAGENET`."""


def read_classes(text: str, folder: Path | None = None) -> Classes:
    """The classes that a text means: `IMAGENET`, names with commas between them, or the file that holds them.

    Args:
        text: ``imagenet``; ``cat,dog``; or a text file with one name a line.
        folder: What a relative path is relative to; left out, the current folder.

    Raises:
        InputError: There is no such file, or its lines are no names of classes.
    """
    file = (folder or Path()) / Path(text).expanduser()
    if text == IMAGENET:
        return IMAGENET
    if file.is_file():
        names = [line.strip() for line in text_lines(file)]
        while names and not names[-1]:
            names.pop()
        return checked(names, str(file))
    if "," in text:
        return checked([name.strip() for name in text.split(",")], text)
    hint = "Give 'imagenet', a text file with the name of a class on each line, or names with commas."
    raise InputError(Fault("there is no such file of classes", hint=hint, where=str(file)))


def checked(names: Sequence[str], where: str) -> Sequence[str]:
    """Names of classes, of which there are two or more, each once.

    Raises:
        InputError: There are fewer, one is empty, or one is there twice.
    """
    for place, name in enumerate(names):
        if not name:
            raise InputError(Fault(f"the name of class {place} is empty", where=where))
    if len(set(names)) < len(names):
        twice = next(name for name, often in Counter(names).items() if often > 1)
        raise InputError(Fault(f"'{twice}' is the name of two classes", where=where))
    if len(names) < 2:
        raise InputError(Fault(f"{len(names)} names of classes, expected two or more", where=where))
    return names


def classes_of(spec: Spec) -> Classes | None:
    """The classes that a spec names (``backbone.classes``); None if it names none.

    Raises:
        InputError: Their file cannot be read.
    """
    given = None if spec.backbone is None else spec.backbone.classes
    return read_classes(given, spec.folder) if isinstance(given, str) else given


def names_of(classes: Classes) -> list[str]:
    """The names to show, by label."""
    return class_names() if classes == IMAGENET else list(classes)


def numbers_of(classes: Classes, found: Iterable[str], where: str) -> Mapping[str, int]:
    """The label of each name that was found.

    Args:
        classes: The classes.
        found: Names of folders, or of the classes of a data set. Where the classes are ImageNet's, all are
            WordNet numbers, all are labels, or all are names.
        where: For errors.

    Raises:
        InputError: One of them is none of the classes.
    """
    found = list(found)
    forms = [classes]
    if classes == IMAGENET:
        forms = [wnids(), [str(label) for label in range(len(wnids()))], class_names()]
    tables = [numbered(form) for form in forms]
    best = max(tables, key=lambda table: sum(name in table for name in found))
    for name in found:
        if name not in best:
            message = f"'{name}' is none of the classes"
            raise InputError(Fault(message, hint=closest(name, list(best)), where=where))
    return best


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Names with their places."""
    return {name: place for place, name in enumerate(names)}


def relabelled(source: Any, classes: Classes | None) -> Source:
    """A source whose labels count in the order of other classes; the same one where it is that order.

    Raises:
        InputError: An image is of another class, or it cannot be told which is meant.
    """
    own: list[str] | None = source.classes
    found: Source = source
    if classes is None or own is None or list(names_of(classes)) == own:
        return found
    labels = np.array([source.label(place) for place in range(len(source))], dtype=np.int64)
    names = own
    if own == class_names() and set(classes) <= set(wnids()):
        names = wnids()
    present = sorted(set(labels.tolist()))
    if len({names[label] for label in present}) < len(present):
        raise InputError(Fault("two of its classes have the same name", where=source.name))
    known = numbers_of(classes, [names[label] for label in present], source.name)
    moved = np.zeros(len(own), dtype=np.int64)
    moved[present] = [known[names[label]] for label in present]
    found = replace(source, labels=moved[labels], classes=names_of(classes))
    return found
