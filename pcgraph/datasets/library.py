"""The small data sets that torchvision knows how to fetch and read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pcgraph.datasets.parts import Split
from pcgraph.datasets.sources import Arrays
from pcgraph.errors import Fault, InputError

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
"""What we call them, and torchvision's classes."""


def library_data(kind: str, root: Path | None, part: Split, *, download: bool) -> Arrays:
    """MNIST, CIFAR-10 or CIFAR-100, in the files that torchvision reads.

    Args:
        kind: One of `NAMES`.
        root: The folder that holds them (MNIST: ``MNIST/raw``; CIFAR: ``cifar-10-batches-py`` or
            ``cifar-100-python``). None: ``pcgraph`` in the user's cache.
        part: Which part.
        download: Fetch what is missing.

    Raises:
        InputError: The files are missing and are not to be downloaded, or cannot be, or are broken.
    """
    import torchvision.datasets

    load: Callable[..., Any] = getattr(torchvision.datasets, NAMES[kind])
    root = root or _cache()
    try:
        data = load(str(root), train=part == "train", download=download)
    except Exception as error:  # a RuntimeError where files are missing; elsewhere, what reading them raises
        text = str(error).partition("\n")[0].strip() or type(error).__name__
        missing = "download=True" in text
        message = f"{NAMES[kind]} is not here" if missing else f"{NAMES[kind]} cannot be read: {text}"
        hint = f"Download it (--download, or download=True), or give its folder: {kind}:PATH."
        raise InputError(Fault(message, hint=hint, where=str(root))) from None
    return Arrays(kind, np.asarray(data.data), [int(label) for label in data.targets], list(data.classes))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pcgraph"
