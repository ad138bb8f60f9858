"""Run folders, read again: what was run, and the numbers that it left."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcgraph.display.safe import from_csv_cell
from pcgraph.errors import Fault, InputError
from pcgraph.files.seals import FILES, check_record
from pcgraph.report.results import COLUMNS
from pcgraph.runs.record import RECORD, check_written

LOSSES = ("epoch", "step", "split", "name", "value")
EVALUATION = ("data", "noise", "level", "step", "metric", "name", "value", "low", "high", "n")
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("metrics.csv", COLUMNS),
    "query": ("metrics.csv", COLUMNS),
    "train": ("losses.csv", LOSSES),
    "tune": ("losses.csv", LOSSES),
    "evaluate": ("evaluation.csv", EVALUATION),
}
"""By the kind of a run: its table, and the columns that the table must have."""
NUMBERS = {"level", "value", "low", "high", "cka"}
COUNTS = {"epoch", "step", "other_step", "n"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes:
        path: The folder.
        label: What the run is called among those that are shown with it.
        kind: ``run``, ``train``, ``tune``, ``evaluate``, ``query``, ...
        record: What `run.json` holds.
        rows: The rows of its table; texts as they are, numbers as numbers, empty fields as NaN.
    """

    path: Path
    label: str
    kind: str
    record: Mapping[str, Any]
    rows: Sequence[Row]


def read_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """Read run folders.

    Raises:
        InputError: A folder is no run folder, or a file in it is damaged; says which, and the line.
    """
    labels = _labels(paths)
    return [_read_run(path, label) for path, label in zip(paths, labels, strict=True)]


def _labels(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of the folders around them as it takes to tell them apart."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        labels = ["/".join(part[-count:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    doubled = next(path for path in paths if parts.count(path.absolute().parts) > 1)
    raise InputError(Fault("this folder is given twice", where=str(doubled)))


def _read_run(path: Path, label: str) -> RunFolder:
    file = path / RECORD
    if not path.is_dir():
        problem = "is a file, expected a run folder" if path.exists() else "there is no such folder"
        raise InputError(Fault(problem, hint="Give the folder that a command wrote.", where=str(path)))
    if not file.is_file():
        hint = "Give a folder that run, train, tune, evaluate or query wrote."
        raise InputError(Fault(f"is no run folder: it holds no '{RECORD}'", hint=hint, where=str(path)))
    record = check_record(file)
    kind = record.get("kind", "run")
    if not isinstance(kind, str):
        raise InputError(Fault(f"kind: expected a word, got {kind!r}", where=str(file)))
    if kind == "study":
        hint = "'pcgraph study FILE' writes the page of a study into its folder, and computes nothing twice."
        raise InputError(Fault("is the folder of a study, not of a run", hint=hint, where=str(path)))
    rows: list[Row] = []
    if kind in TABLES:
        name, columns = TABLES[kind]
        rows = read_table(path / name, columns)
    for name in record.get(FILES, ()):
        check_written(path / name)
    return RunFolder(path, label, kind, record, rows)


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV file whose first line names at least ``columns``.

    Raises:
        InputError: The file is missing or damaged; says the line.
    """
    if not path.is_file():
        raise InputError(Fault("there is no such file in the run folder", where=str(path)))
    rows: list[Row] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing:
                message = f"expected the columns {', '.join(columns)}; {', '.join(missing)} is missing"
                raise InputError(Fault(message, where=f"{path}:1"))
            for fields in reader:
                where = f"{path}:{reader.line_num}"
                if len(fields) != len(header):
                    message = f"expected {len(header)} fields, got {len(fields)}"
                    raise InputError(Fault(message, where=where))
                row = dict(zip(header, fields, strict=True))
                rows.append({name: _value(name, text, where) for name, text in row.items()})
    except csv.Error as error:
        raise InputError(Fault(f"is no CSV file: {error}", where=f"{path}:{reader.line_num}")) from None
    except UnicodeDecodeError:
        raise InputError(Fault("is not UTF-8 text", where=str(path))) from None
    return rows


def _value(name: str, text: str, where: str) -> Any:
    if name not in NUMBERS | COUNTS:
        return from_csv_cell(text)
    if name in NUMBERS and not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        raise InputError(Fault(f"{name}: expected a number, got '{text}'", where=where)) from None
    if name not in COUNTS:
        return number
    if not number.is_integer():
        raise InputError(Fault(f"{name}: expected a whole number, got '{text}'", where=where))
    return int(number)
