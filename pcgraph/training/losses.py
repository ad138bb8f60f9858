"""The table of losses: one row a batch and loss, appended as the training goes on."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

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
        sha256: Of these bytes.

    Raises:
        InputError: The file does not begin with them.
    """

    def __init__(self, path: Path | None, size: int | None, sha256: str = "") -> None:
        self._file: BinaryIO | None = None
        self._seen = hashlib.sha256()
        if path is None:
            return
        if size is None:
            self._file = path.open("wb")
            self._write([COLUMNS])
            return
        stands = path.read_bytes()[:size] if path.is_file() else b""
        self._seen.update(stands)
        if self.sha256() != sha256:
            raise InputError(Fault("is not what it was at the checkpoint", where=str(path)))
        self._file = path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)

    def add(self, epoch: int, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append some values."""
        if self._file is not None:
            rows = ((epoch, step, split, name, f"{value:.9g}") for name, value in values.items())
            self._write(rows)

    def size(self) -> int:
        """Bytes written so far, all of them on the disk."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def sha256(self) -> str:
        """Checksum of the bytes written so far."""
        return self._seen.hexdigest()

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            self._file.close()

    def _write(self, rows: Iterable[Iterable[object]]) -> None:
        assert self._file is not None
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        written = text.getvalue().encode()
        self._seen.update(written)
        self._file.write(written)


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
