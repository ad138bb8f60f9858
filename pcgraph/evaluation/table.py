"""The results of an evaluation as one tidy table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pcgraph.display.safe import csv_cell, from_csv_cell
from pcgraph.errors import Fault, InputError
from pcgraph.evaluation.conditions import CLEAN, from_key
from pcgraph.evaluation.corruptions import CORRUPTIONS
from pcgraph.evaluation.statistics import (
    ALEXNET,
    Bootstrap,
    Numbers,
    all_severities,
    corruption_errors,
    interval,
    mean_corruption_error,
)
from pcgraph.evaluation.store import DIVERGED, Measured

FILE = "evaluation.csv"
IMAGENET_CLASSES = 1000
ALL = "corruptions"
"""The noise of a row that is about all corruptions together."""


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        data: What the data set is called.
        noise: ``clean``, the kind of noise, a corruption, or an attack such as ``pgd@4``.
        level: Sigma, share, severity or epsilon; 0 for clean images and over all severities.
        step: Of the dynamics; 0 is the plain network.
        metric: What the number is.
        name: Which of them: a node, or what an error is relative to.
        value: The mean over images and runs.
        low: Lower end of its interval.
        high: Upper end.
        n: Images.
    """

    data: str
    noise: str
    level: float
    step: int
    metric: str
    name: str
    value: float
    low: float
    high: float
    n: int


COLUMNS = tuple(field.name for field in fields(Row))


def tabulate(data: str, runs: Sequence[Measured], classes: int, seed: int = 0) -> list[Row]:
    """Means and intervals of everything that was measured.

    Args:
        data: What the data set is called.
        runs: What was measured in each run, of the same images and conditions; most often one.
        classes: Number of the network's classes; errors relative to AlexNet's make sense with 1,000.
        seed: Of the resamples.

    Raises:
        InputError: The runs did not see the same images and conditions.
    """
    images = _same_images(runs)
    bootstrap = Bootstrap(images, len(runs), seed)
    rows: list[Row] = []
    errors: dict[tuple[str, int], Numbers] = {}
    for condition, first in runs[0].items():
        noise, level = from_key(condition)
        wanted = [what for what in first if what != "index"]
        values = {what: _stacked([run[condition][what] for run in runs]) for what in wanted}
        add = partial(_add, rows, data, noise, level, images)
        if "correct" in values:
            accuracy = bootstrap.means(values["correct"])
            add("accuracy", accuracy)
            add("gain", accuracy - accuracy[:, :1])
            add("loss", bootstrap.means(values["loss"]))
            if noise in CORRUPTIONS:
                errors[noise, int(level)] = 1 - accuracy
        add("agreement", bootstrap.means(values["agree"]))
        if DIVERGED in values:
            add(DIVERGED, bootstrap.means(values[DIVERGED]))
        for what in wanted:
            if what.startswith("distance:"):
                distance, node = bootstrap.means(values[what]), what.removeprefix("distance:")
                add("distance", distance, node)
                if noise != CLEAN:
                    add("relative_distance", distance / distance[:, :1], node)
        if "success" in values:
            counted = _counted([run[f"{CLEAN}:0"] for run in runs], int(noise.rpartition("@")[2]))
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = bootstrap.means(values["success"] * counted) / bootstrap.means(counted)
            _add(rows, data, noise, level, int(counted.sum()), "attack_success", rate)
    rows += _corruption_rows(data, errors, images, classes)
    return rows


def _add(
    rows: list[Row],
    data: str,
    noise: str,
    level: float,
    images: int,
    metric: str,
    means: Numbers,
    name: str = "",
) -> None:
    """A row for each step of a quantity's means and resamples (1 + resamples, steps + 1)."""
    for step in range(means.shape[1]):
        found = interval(means[:, step])
        rows.append(Row(data, noise, level, step, metric, name, found.value, found.low, found.high, images))


def _corruption_rows(
    data: str, errors: Mapping[tuple[str, int], Numbers], images: int, classes: int
) -> list[Row]:
    """Corruption errors relative to step 0, and to AlexNet where that makes sense, and their means."""
    names = list(dict.fromkeys(name for name, _ in errors))
    means = {
        name: np.mean([values for (other, _), values in errors.items() if other == name], axis=0)
        for name in names
    }
    references: dict[str, Mapping[str, Numbers]] = {
        "step0": {name: mean[:, :1] for name, mean in means.items()}
    }
    if classes == IMAGENET_CLASSES:
        references["alexnet"] = {
            name: np.array(ALEXNET[name])
            for name in names
            if name in ALEXNET and all_severities(errors, name)
        }
    rows: list[Row] = []
    for reference, relative_to in references.items():
        found = corruption_errors(errors, relative_to)
        for name, values in found.items():
            _add(rows, data, name, 0.0, images, "ce", values, reference)
        mean = mean_corruption_error(found)
        if mean is not None:
            _add(rows, data, ALL, 0.0, images, "mce", mean, reference)
    return rows


def _counted(clean: Sequence[Mapping[str, Tensor]], step: int) -> Numbers:
    """The images that an attack's success is counted of: answered rightly before; without labels, all."""
    rows = [run.get("correct", run["agree"].new_ones(run["agree"].shape))[step] for run in clean]
    stacked: Numbers = np.stack([row.numpy() for row in rows]).astype(np.float64)[:, :, None]
    return stacked


def _stacked(series: Sequence[Tensor]) -> Numbers:
    """(runs, images, steps + 1)."""
    stacked: Numbers = np.stack([values.numpy().T for values in series]).astype(np.float64)
    return stacked


def _same_images(runs: Sequence[Measured]) -> int:
    """How many images all runs saw."""
    first = runs[0][f"{CLEAN}:0"]["index"]
    for number, run in enumerate(runs[1:], 2):
        if set(run) != set(runs[0]):
            raise InputError(
                Fault(
                    f"run {number} has other conditions than the first: {', '.join(run)}; expected "
                    f"{', '.join(runs[0])}"
                )
            )
        if not run[f"{CLEAN}:0"]["index"].equal(first):
            raise InputError(Fault(f"run {number} saw other images than the first"))
        if any(set(run[name]) != set(rows) for name, rows in runs[0].items()):
            raise InputError(Fault(f"run {number} measured other quantities than the first"))
    return len(first)


def write_table(rows: Iterable[Row], path: Path) -> None:
    """Write rows as CSV; numbers have nine digits, and no text is a formula."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(value) for value in astuple(row)])


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return csv_cell(value)
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def read_table(path: Path) -> list[Row]:
    """Read what `write_table` wrote."""
    kinds: dict[str, Callable[[str], Any]] = {
        "level": float,
        "step": int,
        "value": float,
        "low": float,
        "high": float,
        "n": int,
    }
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{name: kinds.get(name, from_csv_cell)(text) for name, text in row.items()})
            for row in csv.DictReader(file)
        ]
