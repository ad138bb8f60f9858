"""Folders of Hugging Face's ``datasets``: what ``save_to_disk`` wrote, and Parquet files of pictures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcgraph.datasets.parts import Split
from pcgraph.datasets.records import Records, by_part, chosen_part, library
from pcgraph.errors import Fault, InputError, PCGraphWarning

SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
"""What ``save_to_disk`` puts into a folder."""
LABELS = ("label", "labels", "cls", "class", "target")
"""Columns that look like labels; only a ``ClassLabel`` is one."""


@dataclass(frozen=True, eq=False)
class Table(Records):
    """The pictures of a table, in the order of its rows.

    Attributes:
        name: What the data set is called in results.
        rows: The table, whose pictures are not decoded.
        column: Of the pictures.
        labels: One a row; none where there are no labels.
        classes: The names of the classes, by label; None where there are no labels.
    """

    name: str
    rows: Any
    column: str
    labels: Sequence[int] | NDArray[np.int64] = ()
    classes: list[str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def label(self, index: int) -> int:
        """The class of a picture; -1 where there are no labels."""
        return int(self.labels[index]) if self.classes is not None else -1

    def key(self, index: int) -> str:
        """The data set and the row."""
        return f"{self.name}[{index}]"

    def content(self, index: int) -> bytes:
        """The bytes of a picture's file, which lie in the table, or in a file of this machine."""
        try:
            held = self.rows[index][self.column] or {}
            if held.get("bytes") is not None:
                return bytes(held["bytes"])
            path = Path(held.get("path") or "")
            if path.is_file():
                return path.read_bytes()
        except Exception as error:  # what Arrow raises where a file has vanished or is damaged
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(Fault(f"the row cannot be read: {reason}", where=self.key(index))) from None
        message = f"the picture is neither in the table nor in a file that is here: '{path}'"
        raise InputError(Fault(message, where=self.key(index)))


def huggingface(path: Path, part: Split) -> Table:
    """The pictures in a folder of Hugging Face's ``datasets``.

    Args:
        path: What ``save_to_disk`` wrote; a folder of Parquet files, as the hub keeps them; or one such file.
        part: Which part. A table that is in no parts is both.

    Returns:
        Labels are those of the only column of type ``ClassLabel``, with its names; without such a column
        there are none.

    Raises:
        InputError: There is no such folder, it has no such part, or no column of pictures, or several; or it
            cannot be told which column holds the labels.
    """
    if not path.exists():
        raise InputError(Fault("there is no such folder", hint="Write huggingface:PATH.", where=str(path)))
    datasets = library("datasets")
    parts = _read(datasets, path)
    found = parts[chosen_part(parts, part, str(path))]
    kinds = dict(found.features)
    column = _only(kinds, datasets.Image, "pictures", str(path))
    if column is None:
        shown = ", ".join(f"'{name}' ({type(kind).__name__})" for name, kind in kinds.items())
        hint = "Give one column the type datasets.Image: cast_column."
        raise InputError(Fault(f"there is no column of pictures among {shown}", hint=hint, where=str(path)))
    label = _only(kinds, datasets.ClassLabel, "labels", str(path))
    rows = found.cast_column(column, datasets.Image(decode=False)).select_columns([column])
    name = f"huggingface:{path}"
    if not len(rows):
        raise InputError(Fault("there are no rows", where=str(path)))
    if label is None:
        for name_, kind in kinds.items():
            if name_ in LABELS and not isinstance(kind, datasets.ClassLabel):
                message = f"the column '{name_}' is no datasets.ClassLabel, so nothing says what it means"
                warnings.warn(PCGraphWarning(f"{path}: {message}: the pictures have no labels"), stacklevel=2)
        return Table(name, rows, column)
    names = list(kinds[label].names)
    return Table(name, rows, column, _labels(found, label, len(names), str(path)), names)


def _read(datasets: Any, path: Path) -> Mapping[str, Any]:
    """The tables by the names of the parts; one that is in no part under the empty name.

    Nothing in a folder is run, and nothing is fetched.
    """
    datasets.disable_progress_bars()
    try:
        if any((path / name).is_file() for name in SAVED):
            found = datasets.load_from_disk(str(path))
            return found if isinstance(found, datasets.DatasetDict) else {"": found}
        files = by_part(path, ".parquet") if path.is_dir() else {"": [path]}
        names = {part or "train": [str(file) for file in some] for part, some in files.items()}
        tables = datasets.load_dataset("parquet", data_files=names)
        return {part: tables[part or "train"] for part in files}
    except InputError:
        raise
    except Exception as error:  # each format has its own errors
        reason = str(error).partition("\n")[0] or type(error).__name__
        hint = f"Expected what save_to_disk writes ({SAVED[0]} or {SAVED[1]}), or Parquet files."
        raise InputError(
            Fault(f"the data set cannot be read: {reason}", hint=hint, where=str(path))
        ) from None


def _only(kinds: Mapping[str, Any], wanted: type, what: str, where: str) -> str | None:
    """The only column of a type; None if there is none.

    Raises:
        InputError: There are several.
    """
    found = [name for name, kind in kinds.items() if isinstance(kind, wanted)]
    if len(found) > 1:
        message = f"several columns hold {what}: {', '.join(map(repr, found))}"
        raise InputError(Fault(message, hint="Leave one: remove_columns.", where=where))
    return found[0] if found else None


def _labels(rows: Any, column: str, classes: int, where: str) -> NDArray[np.int64]:
    """The labels of all rows.

    Raises:
        InputError: Some row has none.
    """
    labels = [-1 if label is None else int(label) for label in rows[column]]
    for row, label in enumerate(labels):
        if not 0 <= label < classes:
            message = f"row {row} has no label ('{column}' is {label})"
            hint = "Remove that column to use the pictures without labels, or take another part."
            raise InputError(Fault(message, hint=hint, where=where))
    return np.asarray(labels, dtype=np.int64)
