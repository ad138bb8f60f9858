"""Encoded pictures that lie in the files of another library, with what both such libraries need."""

from __future__ import annotations

import importlib
import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from pcgraph.datasets.finding import images_below
from pcgraph.datasets.images import read_planes
from pcgraph.datasets.parts import HELD_OUT, TEST, TRAIN, Split
from pcgraph.datasets.sources import Source
from pcgraph.errors import Fault, InputError


class Records(Source):
    """Pictures in containers, each the bytes of an image file."""

    @abstractmethod
    def key(self, index: int) -> str:
        """What a picture is called in messages."""

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of a picture's file.

        Raises:
            InputError: They cannot be read.
        """

    def planes(self, index: int, channels: int) -> Sequence[Image.Image]:
        """The picture, one plane (mode F) a channel."""
        return read_planes(BytesIO(self.content(index)), channels, self.key(index))


def library(name: str) -> Any:
    """A library that reads data.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        hint = "pip install 'pcgraph[data]'"
        raise InputError(Fault(f"the Python package '{missing}' is not installed", hint=hint)) from None


def by_part(root: Path, suffix: str) -> dict[str, list[Path]]:
    """The files in a folder that end in ``suffix``, in order of their numbers, by the part in their names.

    ``train-00000.tar`` and ``validation/0001.tar`` are named for a part; files that are named for none are
    under the empty name.

    Raises:
        InputError: There are none, or those of a part are of several sets.
    """
    sets: dict[str, list[Path]] = {}
    for file in images_below(root, (suffix,)):
        sets.setdefault(re.sub("[0-9]+", "#", str(file.relative_to(root))), []).append(file)
    if not sets:
        raise InputError(Fault(f"this folder holds no file that ends in {suffix}", where=str(root)))
    parts = {_word(name): sorted(files, key=_numbered) for name, files in sets.items()}
    if len(parts) < len(sets):
        first, second, *_ = (files[0].relative_to(root) for files in sets.values())
        message = f"files of several sets, such as '{first}' and '{second}'"
        raise InputError(Fault(message, hint="Give a folder with one of them alone.", where=str(root)))
    return parts


def _word(name: str) -> str:
    """The word in a name that says a part; empty without one."""
    words = re.split("[^a-z]+", name.lower())
    return next((word for word in words if word in (*TRAIN, *TEST, *HELD_OUT)), "")


def _numbered(path: Path) -> list[tuple[str, int]]:
    return [(text, int(number or 0)) for text, number in re.findall("([^0-9]*)([0-9]*)", str(path))]


def chosen_part(names: Iterable[str], part: Split, where: str) -> str:
    """The name that means a part: ``train``; ``test``, or what is held out where there is no ``test``.

    Raises:
        InputError: There is none, or it cannot be told which.
    """
    names = list(names)
    if names == [""]:  # in no parts: both are all
        return ""
    for words in (TRAIN,) if part == "train" else (TEST, HELD_OUT):
        found = [name for name in names if name.lower() in words]
        if len(found) == 1:
            return found[0]
        if found:
            message = f"{' and '.join(map(repr, found))} could both be the part '{part}'"
            raise InputError(Fault(message, hint="Give one of them alone.", where=where))
    shown = ", ".join(repr(name) for name in names if name)
    raise InputError(Fault(f"there is no part '{part}', but {shown}", where=where))
