"""Two maps of all arms of a study: how alike states stay to clean ones, and how large errors are."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.evaluation.conditions import CLEAN
from pcgraph.report.arm_sheet import arm_sheet
from pcgraph.report.figures import DARK, FADED, NOTHING, shade
from pcgraph.report.similarity_figure import similarity_colour
from pcgraph.report.study import ArmRow
from pcgraph.study.results import Results
from pcgraph.study.states import energy_rows, similarity_rows

CELL = 0.66
"""Inches of a column."""
LONGEST = 16
"""Characters of a column's name."""
ERROR = "#d9694e"
Cells = Mapping[tuple[str, str], float]
"""A number for an arm and a column."""


def similarity_figure(results: Results, rows: Sequence[ArmRow]) -> Figure | None:
    """Of the highest node after the last step, under every noise; None where it is not asked for."""
    noisy = [row for row in similarity_rows(results) if row.noise != CLEAN]
    found = [row for row in noisy if not row.failed]
    if not found:
        return None
    node, last = found[-1].node, _last((row.arm, row.step) for row in found)
    values: dict[tuple[str, str], list[float]] = {}
    for row in found:
        if row.node == node and row.step == last[row.arm]:
            values.setdefault((row.arm, f"{row.noise} {row.level:g}"), []).append(row.cka)
    said = f"linear CKA of {node} after the last step with {node} of clean images at step 0, mean over seeds"
    failed = {row.arm for row in noisy} - {row.arm for row in found}
    return _map(results, rows, said, _means(values), failed, similarity_colour)


def energy_figure(results: Results, rows: Sequence[ArmRow]) -> Figure | None:
    """Of the feedback, for clean images after the last step; None where it is not asked for."""
    drive = {edge.name for edge in results.plan.arms.graph.edges.values() if edge.kind != "feedback"}
    without = {one.name for one in results.plan.arms.wirings if one.control is not None}
    clean = [row for row in energy_rows(results) if row.noise == CLEAN and row.arm not in without]
    found = [row for row in clean if row.term not in drive and not row.failed]
    if not found:
        return None
    last = _last((row.arm, row.step) for row in found)
    values: dict[tuple[str, str], list[float]] = {}
    for row in found:
        if row.step == last[row.arm]:
            values.setdefault((row.arm, row.term), []).append(row.share)
    said = "error over state after the last step, clean, mean over seeds (above 1: worse than no prediction)"
    failed = {row.arm for row in clean if row.failed} - {row.arm for row in found}
    return _map(results, rows, said, _means(values), failed, _error_colour)


def _error_colour(value: float) -> str:
    return NOTHING if math.isnan(value) else shade(ERROR, float(np.clip(value, 0, 1)))


def _last(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The last step of each arm."""
    found: dict[str, int] = {}
    for arm, step in pairs:
        found[arm] = max(step, found.get(arm, 0))
    return found


def _means(values: Mapping[tuple[str, str], Sequence[float]]) -> Cells:
    return {place: float(np.mean(several)) for place, several in values.items()}


def _map(
    results: Results,
    rows: Sequence[ArmRow],
    said: str,
    cells: Cells,
    failed: Collection[str],
    colour: Callable[[float], str],
) -> Figure:
    columns = list(dict.fromkeys(column for _, column in cells))
    sheet = arm_sheet(
        results, rows, results.plan.study.study, said, wide=max(CELL * len(columns), 1.2), notes=0.1
    )
    axes = sheet.content
    for (arm, column), value in cells.items():
        place, at = columns.index(column), sheet.places[arm]
        box = Rectangle((place + 0.03, at - 0.46), 0.94, 0.92, facecolor=colour(value))
        axes.add_patch(box)
        shown = "?" if math.isnan(value) else f"{value:.2f}"
        axes.text(place + 0.5, at, shown, size=7.5, color=DARK, ha="center", va="center")
    for arm in failed:
        axes.text(0.1, sheet.places[arm], "failed", size=7.5, color=FADED, va="center")
    axes.set_xlim(0, len(columns))
    names = [figure_text(shortened(column, LONGEST)) for column in columns]
    axes.set_xticks(np.arange(len(columns)) + 0.5, names, rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0, labelsize=7)
    axes.spines["bottom"].set_visible(False)
    return sheet.figure
