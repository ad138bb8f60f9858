"""The table of losses: one row a batch and loss, appended as the training goes on."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from pcgraph.errors import Fault, InputError

COLUMNS = ("epoch", "step", "split", "name", "value")
TRAIN, VALIDATION = "train", "validation"
Means = dict[str, dict[str, float]]
"""Mean by split and name."""


class LossTable:
    """Appends to ``losses.csv``; to be closed.

    Args:
        path: The file; None, in a process that writes nothing.
        size: Bytes of it that stand, at a checkpoint; what was written after that is cut off. None
            begins a new file.

    Raises:
        InputError: The file is shorter than that.
    """

    def __init__(self, path: Path | None, size: int | None) -> None:
        self._file: TextIO | None = None
        if path is None:
            return
        if size is not None:
            if not path.is_file() or path.stat().st_size < size:
                raise InputError(Fault("is shorter than at the checkpoint", where=str(path)))
            os.truncate(path, size)
        self._file = path.open("w" if size is None else "a", newline="", encoding="utf-8")
        if size is None:
            csv.writer(self._file).writerow(COLUMNS)

    def add(self, epoch: int, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append some values."""
        if self._file is not None:
            rows = ((epoch, step, split, name, f"{value:.9g}") for name, value in values.items())
            csv.writer(self._file).writerows(rows)

    def size(self) -> int:
        """Bytes written so far, all of them in the file."""
        if self._file is None:
            return 0
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            self._file.close()


def epoch_means(path: Path) -> list[Means]:
    """What ``losses.csv`` holds, averaged over the steps of each epoch."""
    sums: dict[tuple[int, str, str], list[float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            entry = sums.setdefault((int(row["epoch"]), row["split"], row["name"]), [0.0, 0.0])
            entry[0] += float(row["value"])
            entry[1] += 1
    epochs: dict[int, Means] = {}
    for (epoch, split, name), (total, count) in sums.items():
        epochs.setdefault(epoch, {}).setdefault(split, {})[name] = total / count
    return [epochs[epoch] for epoch in sorted(epochs)]
