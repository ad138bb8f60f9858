"""Text files that say the class of each image, or the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pcgraph.errors import Fault, InputError

LABEL_FILES = ("LOC_val_solution.csv", "val.txt")
"""Names of the files that say the classes of ImageNet's images."""
LARGEST = 64_000_000
"""Bytes of a file that is read; that of ImageNet has 19 million."""


def text_lines(file: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        InputError: It cannot be read, is no text, or is far too long.
    """
    try:
        if file.exists() and not file.is_file():
            raise InputError(Fault("expected a text file", where=str(file)))
        if file.stat().st_size > LARGEST:
            raise InputError(Fault(f"more than {LARGEST:,} bytes, expected a text file", where=str(file)))
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(Fault(f"the file cannot be read: {error.strerror}", where=str(file))) from None
    except UnicodeDecodeError as error:
        raise InputError(Fault(f"no UTF-8 text (byte {error.start})", where=str(file))) from None


def label_file(places: tuple[Path, ...], numbers: Mapping[str, int]) -> dict[str, int]:
    """The labels of images that stand in one folder, by the images' names without suffix.

    Each line holds a name, and a WordNet number or a label; what follows on the line (Kaggle's file lists
    the boxes) is left.

    Args:
        places: Where the file may be; the first that is there is read.
        numbers: The label of each WordNet number.

    Raises:
        InputError: There is none, a line says no label, or two say different ones of the same image.
    """
    file = next(
        (found for place in places for name in LABEL_FILES if (found := place / name).is_file()), None
    )
    if file is None:
        hint = f"Put {' or '.join(LABEL_FILES)} beside it, or the images into class folders."
        raise InputError(
            Fault("images without class folders and without a label file", hint=hint, where=str(places[-1]))
        )
    labels: dict[str, int] = {}
    for line, text in enumerate(text_lines(file), 1):
        words = re.split(r"[,\s]+", text.strip())
        if words in ([""], ["ImageId", "PredictionString"]):
            continue
        label = _label(words[1], numbers) if len(words) > 1 else None
        if label is None:
            message = f"expected an image's name and its class (n01440764, or 0 to 999), got '{text[:200]}'"
            raise InputError(Fault(message, where=f"{file}:{line}"))
        if labels.setdefault(Path(words[0]).stem, label) != label:
            raise InputError(Fault(f"'{words[0]}' has another label further up", where=f"{file}:{line}"))
    return labels


def _label(word: str, numbers: Mapping[str, int]) -> int | None:
    if word.isascii() and word.isdecimal() and len(word) <= 6 and int(word) < len(numbers):
        return int(word)
    return numbers.get(word)


def label_of(image: Path, labels: Mapping[str, int]) -> int:
    """The label of an image.

    Raises:
        InputError: The file does not name it.
    """
    if image.stem not in labels:
        raise InputError(Fault("the label file does not name this image", where=str(image)))
    return labels[image.stem]
