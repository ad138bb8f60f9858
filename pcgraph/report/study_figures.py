"""Figures of a study: what each wiring is worth against the reference, and accuracy over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from pcgraph.display.safe import figure_text
from pcgraph.evaluation.conditions import from_key
from pcgraph.report.figures import CYCLE, FADED, INK
from pcgraph.report.study import ArmRow
from pcgraph.study.results import Results

PER_CENT = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")
ROW = 0.27
"""Inches of a line of the forest."""
WIDEST = 0.6
"""Intervals that reach further are cut, with an arrow: they say that nothing is known."""
OVERLAID = len(CYCLE)
"""Arms whose accuracy is drawn over the steps: the first of the file."""


def study_figures(results: Results, rows: Sequence[ArmRow]) -> dict[str, Figure]:
    """The figures, by name."""
    return {"forest": forest_figure(results, rows), "steps": steps_figure(results)}


def forest_figure(results: Results, rows: Sequence[ArmRow]) -> Figure:
    """Every arm's difference to the reference with its corrected interval, lesions and grids below."""
    compared = [row for row in rows if row.compared is not None]
    figure = Figure(figsize=(8.0, 1.5 + ROW * max(len(compared), 3)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    reached = [abs(end) for row in compared if row.compared for end in _ends(row)]
    limit = min(1.1 * max(reached, default=0.1), WIDEST)
    for place, row in enumerate(reversed(compared)):
        assert row.compared is not None
        low, high = _ends(row)
        known = row.compared.p < 0.05
        colour = (CYCLE[0] if row.compared.difference.value > 0 else CYCLE[1]) if known else FADED
        axes.plot([max(low, -limit), min(high, limit)], [place, place], color=colour, linewidth=1.6)
        axes.plot(row.compared.difference.value, place, "o", color=colour, markersize=4.5)
        for end, side, mark in ((low, -limit, "<"), (high, limit, ">")):
            if abs(end) > limit:
                axes.plot(side, place, mark, color=colour, markersize=4.5, clip_on=False)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(-limit, limit), ylim=(-0.7, len(compared) - 0.3))
    axes.set_yticks(range(len(compared)), [figure_text(row.arm) for row in reversed(compared)], fontsize=8)
    axes.xaxis.set_major_formatter(PER_CENT)
    what = f"accuracy less that of {figure_text(results.reference)}; 95 % for all together"
    axes.set_xlabel(what, fontsize=8, color=FADED)
    axes.set_title(figure_text(results.plan.study.study), fontsize=11, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    return figure


def steps_figure(results: Results) -> Figure:
    """Accuracy over the steps, a panel a condition, the arms of the file overlaid."""
    names = [one.name for one in results.plan.arms.wirings if one.name == one.of and one.cut is None]
    shown = names[:OVERLAID]
    conditions = results.plan.conditions
    wide = min(len(conditions), 3)
    high = math.ceil(len(conditions) / wide)
    figure = Figure(figsize=(3.1 * wide + 1.6, 2.5 * high + 0.5), layout="constrained", facecolor="white")
    panels = figure.subplots(high, wide, squeeze=False).flat
    for axes, condition in zip(panels, conditions, strict=False):
        _draw_steps(axes, results, shown, condition)
    for axes in list(figure.axes)[len(conditions) :]:
        axes.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    left = len(names) - len(shown)
    more = f"; {left} more arms in study.csv" if left else ""
    figure.suptitle(f"{figure_text(results.plan.study.study)}: mean over seeds{more}", fontsize=10)
    return figure


def _draw_steps(axes: Axes, results: Results, arms: Sequence[str], condition: str) -> None:
    for place, arm in enumerate(arms):
        series = results.over_steps(arm, condition)
        if series is not None:
            colour, name = CYCLE[place], figure_text(arm)
            axes.plot(np.arange(len(series)), series, color=colour, label=name, linewidth=1.4)
    noise, level = from_key(condition)
    axes.set_title(noise if level == 0 else f"{noise} {level:g}", fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.yaxis.set_major_formatter(PER_CENT)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _ends(row: ArmRow) -> tuple[float, float]:
    assert row.compared is not None
    return row.compared.interval.low, row.compared.interval.high
