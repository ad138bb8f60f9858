"""The forest of a study: every wiring in small, with its difference to the reference."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.report.arm_sheet import LONGEST, arm_sheet
from pcgraph.report.figures import CYCLE, FADED, GRID, INK, ROUND
from pcgraph.report.study import ArmRow
from pcgraph.study.comparisons import Comparison
from pcgraph.study.results import Results

POINTS = FuncFormatter(lambda share, _: f"{100 * share:+.4g}" if share else "0")
"""Shares as points of a per cent."""
WIDEST = 0.6
"""Intervals that reach further are cut, with an arrow: they say that nothing is known."""
BETTER, WORSE = CYCLE[0], CYCLE[1]


def forest_figure(results: Results, rows: Sequence[ArmRow]) -> Figure:
    """Every arm's difference to the reference with its corrected interval, grids and lesions below."""
    reference = shortened(results.reference, LONGEST)
    word = results.plan.study.evaluate.word
    subtitle = f"{word} less that of {reference}, in points; intervals of 95 % for all arms together"
    if len(results.plan.study.seeds) == 1:
        subtitle += "; one seed: they speak of other images, not of other seeds"
    title = results.plan.study.study
    sheet = arm_sheet(results, rows, title, subtitle, wide=3.4, notes=1.75)
    axes = sheet.content
    limit = reach([row.compared for row in rows if row.compared is not None])
    for row in rows:
        at = sheet.places[row.arm]
        if row.compared is not None:
            draw_interval(axes, row.compared, at, limit)
        sheet.notes.text(0, at, _said(row, results), size=7.5, color=INK, va="center")
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    axes.plot(0, sheet.places[results.reference], "D", color=INK, markersize=4.5)
    axes.set_xlim(-limit, limit)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=ROUND))
    axes.xaxis.set_major_formatter(POINTS)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("points of a per cent", size=8, color=FADED)
    return sheet.figure


def reach(compared: Sequence[Comparison]) -> float:
    """How far the axis of differences goes to either side."""
    ends = [abs(end) for one in compared for end in (one.interval.low, one.interval.high)]
    values = [abs(one.difference.value) for one in compared]
    return max(min(1.08 * max(ends, default=0.0), WIDEST), 1.08 * max(values, default=0.0)) or 0.1


def draw_interval(axes: Axes, one: Comparison, at: float, limit: float) -> None:
    """A difference with its interval, coloured where its p is below 0.05."""
    low, high, value = one.interval.low, one.interval.high, one.difference.value
    colour = colour_of(one)
    axes.plot([max(low, -limit), min(high, limit)], [at, at], color=colour, linewidth=1.6)
    axes.plot(value, at, "o", color=colour, markersize=4.5)
    for end, side, mark in ((low, -limit, "<"), (high, limit, ">")):
        if abs(end) > limit:
            axes.plot(side, at, mark, color=colour, markersize=4.5, clip_on=False)


def colour_of(one: Comparison) -> str:
    """Of a difference: better, worse, or not known."""
    if one.p >= 0.05:
        return FADED
    return BETTER if one.difference.value > 0 else WORSE


def _said(row: ArmRow, results: Results) -> str:
    if row.arm == results.reference:
        return "reference"
    if row.compared is None:
        seeds = len(results.plan.study.seeds)
        return f"failed with {row.failed} of {seeds} seeds" if row.failed else "reference failed"
    one = row.compared
    low, high = 100 * one.interval.low, 100 * one.interval.high
    return figure_text(f"{one.difference.points:+.1f}  ({low:+.1f} to {high:+.1f})")
