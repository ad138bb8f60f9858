"""Folders that stand for the parts of a data set, and the order of classes that folders name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pcgraph.datasets.finding import images_below, listed
from pcgraph.errors import Fault, InputError

Split = Literal["train", "test"]
TRAIN = ("train", "training")
TEST = ("test", "testing")
HELD_OUT = ("val", "valid", "validate", "validation", "dev", "eval")
"""What counts as the test images where there is no `TEST`."""
_WORDS = "|".join(sorted((*TRAIN, *TEST, *HELD_OUT), key=len, reverse=True))


def parts(path: Path) -> dict[Split, Path]:
    """The folder of each part; all are ``path`` where it is not divided.

    Capitals do not matter. Images to train on need others beside them that are held out.

    Raises:
        InputError: It cannot be told which folder is which part: one alone, two for the same, or other
            folders of images beside them.
    """
    folders = listed(path)[0]
    found = {kind: [one for one in folders if one.name.lower() in kind] for kind in (TRAIN, TEST, HELD_OUT)}
    named = [one for kind in found.values() for one in kind]
    others = [one for one in folders if one not in named and next(images_below(one), None) is not None]
    if not named or (others and not (found[TRAIN] and len(named) > len(found[TRAIN]))):
        _refuse_likely_parts(folders, path)
        return {"train": path, "test": path}
    shown = ", ".join(f"'{one.name}'" for one in named)
    if others:
        message = f"the parts {shown} beside '{others[0].name}', which holds images, too"
        raise InputError(Fault(message, hint=f"Give one of them: folder:{named[0]}.", where=str(path)))
    if not found[TRAIN] or len(named) == len(found[TRAIN]):
        message = f"{shown} alone: a part of a data set, or a class?"
        raise InputError(Fault(message, hint=f"Give the part itself: folder:{named[0]}.", where=str(path)))
    for kind in found.values():
        if len(kind) > 1:
            both = " and ".join(f"'{one.name}'" for one in kind)
            hint = f"Give one of them: folder:{kind[0]}."
            raise InputError(Fault(f"{both} could both be the same part", hint=hint, where=str(path)))
    return {"train": found[TRAIN][0], "test": (found[TEST] or found[HELD_OUT])[0]}


def _refuse_likely_parts(folders: list[Path], path: Path) -> None:
    """Refuse ``train2017`` beside ``val2017``, ``train`` beside ``holdout`` with the same folders."""
    for train in (one for one in folders if "train" in one.name.lower()):
        classes = {one.name for one in listed(train)[0]}
        for other in folders:
            same = classes & {one.name for one in listed(other)[0]}
            if other != train and (same or _without_part(train) == _without_part(other)):
                why = "hold the same folders" if same else "are called alike"
                message = f"'{train.name}' and '{other.name}' {why}: parts of a data set, or classes?"
                hint = f"Give one part: folder:{train}; or call them 'train' and 'test'."
                raise InputError(Fault(message, hint=hint, where=str(path)))


def _without_part(folder: Path) -> str:
    """A folder's name without the word for a part: of ``seg_train`` and ``seg_test`` it is the same."""
    return re.sub(_WORDS, "", folder.name.lower())


def refuse_packed(folders: Iterable[Path], path: Path) -> None:
    """Refuse one folder that holds folders of images alone: ``PATH/images/cat``, with ``cat`` and others.

    Raises:
        InputError: It is so.
    """
    (one, *more) = folders
    inside, images = listed(one)
    if not more and inside and not images:
        message = (
            f"'{one.name}' alone holds '{inside[0].name}', in which images are: one class, or all of them?"
        )
        hint = f"Give the folder of the classes, folder:{one}; or name this one, --classes {one.name}."
        raise InputError(Fault(message, hint=hint, where=str(path)))


def in_order(names: Iterable[str], where: Path) -> list[str]:
    """Names of classes in the order of their labels: as numbers if all are whole numbers, else as text.

    Raises:
        InputError: Two names are the same number.
    """
    names = sorted(names)
    if not all(re.fullmatch("[+-]?[0-9]+", name) for name in names):
        return names
    by_number: dict[int, str] = {}
    for name in names:
        if int(name) in by_number:
            message = f"the classes '{by_number[int(name)]}' and '{name}' are the same number"
            raise InputError(Fault(message, hint="Rename one of the folders.", where=str(where)))
        by_number[int(name)] = name
    return [by_number[number] for number in sorted(by_number)]
