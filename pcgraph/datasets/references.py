"""The data sets that a user can name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from pcgraph.datasets.augment import PLAIN
from pcgraph.datasets.classes import Classes, checked, relabelled
from pcgraph.datasets.data import ImageData, subset
from pcgraph.datasets.folders import folder
from pcgraph.datasets.huggingface import huggingface
from pcgraph.datasets.imagenet import imagenet, imagenet_c
from pcgraph.datasets.images import PIXELS, image_shape
from pcgraph.datasets.library import NAMES, library_data
from pcgraph.datasets.parts import Split
from pcgraph.datasets.photographs import CUTS, photographs
from pcgraph.datasets.shipped import digit_arrays
from pcgraph.datasets.sources import Source
from pcgraph.datasets.webdatasets import webdataset
from pcgraph.errors import Fault, InputError, closest
from pcgraph.spec import Preprocess
from pcgraph.spec.backbone import IMAGENET

_FOLDERS = {"imagenet": imagenet, "imagenet-c": imagenet_c, "huggingface": huggingface}
_ORDERED = {"folder": folder, "webdataset": webdataset}
KINDS = ("digits", "photos", *_ORDERED, *_FOLDERS, *NAMES)
"""The first words of references."""
MOST_ITEMS = 10_000
"""Images that numbers may name."""
_PART = re.compile(r"(.+):(train|test)(?::(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*))?")


def open_data(
    reference: str,
    split: Split,
    *,
    shape: Sequence[int],
    preprocess: Preprocess | None = None,
    classes: Classes | None = None,
    download: bool = False,
    skip_broken: bool = False,
) -> ImageData:
    """A data set, prepared for a network. Files are listed now and read later.

    Args:
        reference: ``digits``, ``photos``, ``photos:PATH`` (more photographs to train on), ``folder:PATH``,
            ``imagenet:PATH``, ``imagenet-c:PATH/CORRUPTION/SEVERITY``, ``webdataset:PATH``,
            ``huggingface:PATH``, or ``mnist``, ``cifar10``,
            ``cifar100``, each with ``:PATH`` for the folder that they are in. ``:test`` or ``:train`` behind
            it says the part, whatever ``split`` is, and numbers behind that say which images of the part:
            ``digits:test:0-9``, ``folder:PATH:train:1,4,7``.
        split: ``train`` or ``test``.
        shape: (channels, height, width) of the network's input; pictures become grey or RGB, and are
            resized, as it needs.
        preprocess: How pictures are resized and normalised (`preprocess_for`); None: plain pixels.
        classes: The names of the classes in the order of the labels, or ``imagenet``; labels are then numbers
            in it. Left out: the data's own order.
        download: Fetch MNIST or CIFAR where they are missing. Nothing else is ever fetched.
        skip_broken: Let `batches` leave broken files out and note them in ``skipped``.

    Raises:
        InputError: There is no such data set or folder, it has no such part, ``shape`` is no image's, or
            ``classes`` are fewer than two, or a name is empty or there twice.
    """
    if split not in get_args(Split):
        raise InputError(Fault(f"split '{split}' of the data: expected 'train' or 'test'"))
    if classes is not None and classes != IMAGENET:
        checked(classes, "classes")
    if found := part_of(reference):
        data = open_data(
            found[1],
            "train" if found[2] == "train" else "test",
            shape=shape,
            preprocess=preprocess,
            classes=classes,
            download=download,
            skip_broken=skip_broken,
        )
        places = range(len(data)) if found[3] is None else item_numbers(found[3])
        if max(places, default=0) >= len(data):
            message = f"there are {len(data)} images, 0 to {len(data) - 1}; got {max(places)}"
            raise InputError(Fault(message, where=reference))
        return replace(subset(data, places), called=reference)
    kind, colon, rest = reference.partition(":")
    path = Path(rest).expanduser() if rest else None
    source: Source
    augment = PLAIN
    if kind in _ORDERED and path is not None:
        source = _ORDERED[kind](path, split, classes)
    elif kind in _FOLDERS and path is not None:
        source = _FOLDERS[kind](path, split)
    elif kind in NAMES and (path is not None or not colon):
        source = library_data(kind, path, split, download=download)
    elif kind == "photos" and (path is not None or not colon):
        source, augment = photographs(path, split), CUTS[split]
    elif reference == "digits":
        source = digit_arrays(split)
    else:
        raise InputError(_unknown(reference, kind))
    return ImageData(
        relabelled(source, classes),
        image_shape(shape),
        preprocess or PIXELS,
        augment=augment,
        skip_broken=skip_broken,
    )


def part_of(reference: str) -> re.Match[str] | None:
    """The data set, the part and the numbers of ``DATA:SPLIT`` or ``DATA:SPLIT:NUMBERS``; None for others."""
    found = _PART.fullmatch(reference)
    is_path = found is not None and Path(reference.partition(":")[2]).expanduser().exists()
    return found if found is not None and found[1].partition(":")[0] in KINDS and not is_path else None


def item_numbers(text: str) -> list[int]:
    """The numbers that ``0-9`` or ``1,4,7`` means.

    Raises:
        InputError: A range runs backwards, or there are too many.
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if high < low:
            raise InputError(f"'{part}' runs backwards; expected {high}-{low}")
        if len(found) + high - low >= MOST_ITEMS:
            raise InputError(f"'{text}' are more than {MOST_ITEMS} items")
        found += range(low, high + 1)
    return found


def _unknown(reference: str, kind: str) -> Fault:
    if kind in (*_ORDERED, *_FOLDERS):
        return Fault(f"data '{reference}': expected a path", hint=f"Write {kind}:PATH.")
    if kind in KINDS:
        hint = "Write 'digits' alone." if kind == "digits" else f"Write {kind} or {kind}:PATH."
        return Fault(f"data '{reference}' cannot be understood", hint=hint)
    hint = f"Did you mean 'folder:{reference}'?" if Path(reference).is_dir() else closest(kind, KINDS)
    return Fault(f"no data set is called '{reference}'", hint=hint)
