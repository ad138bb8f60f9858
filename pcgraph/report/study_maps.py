"""Two views of all arms of a study: what they cost against what they bring, and whether they settle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pcgraph.display.safe import figure_text
from pcgraph.display.text import format_count, shortened
from pcgraph.report.arm_sheet import LONGEST, arm_sheet
from pcgraph.report.figures import DARK, FADED, GRID, INK, NOTHING, ROUND, heading, heading_width, shade
from pcgraph.report.label_places import text_width
from pcgraph.report.study import ArmRow
from pcgraph.report.study_forest import POINTS, colour_of, reach
from pcgraph.study.comparisons import Comparison
from pcgraph.study.results import Results
from pcgraph.study.stability import ArmStability, others_text, stability_rows

APART = 0.06
"""Least distance of two names, as a share of the axes' height."""
NAMED = 8
"""Arms whose names are written beside their points."""
CELL = 0.52
"""Inches of a seed's column."""
ROOM = 30
"""Seeds up to which every column has that width."""
FAR = 0.3
"""How far from 1 a radius has the full colour."""
STABLE, UNSTABLE = "#5b8fc4", "#d9694e"


def cost_figure(results: Results, rows: Sequence[ArmRow]) -> Figure | None:
    """Multiply-adds of a step against the difference to the reference; None where no cost is known.

    Lesions are left out: they cost what the whole arm does.
    """
    cut = {one.name for one in results.plan.arms.wirings if one.cut is not None}
    own = [row for row in rows if row.cost is not None and row.arm not in cut]
    compared = [row for row in own if row.compared is not None]
    if not compared:
        return None
    title = results.plan.study.study
    said = "what a step costs and what it brings; bars: intervals of 95 % for all arms together"
    label = max(text_width(shortened(row.arm, LONGEST), 8) for row in own) + 0.6
    width = max(5.4 + label, heading_width(title, said))
    figure = Figure(figsize=(width, 4.2), facecolor="white")
    heading(figure, title, said)
    axes = figure.add_axes((0.75 / width, 0.13, 4.5 / width, 0.7))
    limit = reach([row.compared for row in compared if row.compared])
    for row in compared:
        assert row.compared is not None
        _draw_point(axes, row.cost or 0, row.compared, limit)
    reference = [row for row in own if row.arm == results.reference]
    for row in reference:
        axes.plot(row.cost or 0, 0, "D", color=INK, markersize=5)
    _furnish_cost(axes, [float(row.cost or 0) for row in own], limit)
    _name_points(axes, results, [*reference, *_told(compared)])
    return figure


def _draw_point(axes: Axes, cost: int, one: Comparison, limit: float) -> None:
    ends = [max(one.interval.low, -limit), min(one.interval.high, limit)]
    axes.plot([cost] * 2, ends, color=colour_of(one), linewidth=0.7, alpha=0.5)
    axes.plot(cost, one.difference.value, "o", color=colour_of(one), markersize=5)


def _furnish_cost(axes: Axes, costs: Sequence[float], limit: float) -> None:
    low, high = min(costs), max(costs)
    if low > 0 and high > 8 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
        air = (high - low) * 0.08 or max(high * 0.1, 1.0)
        axes.set_xlim(low - air, high + air)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: format_count(round(cost))))
    axes.set_ylim(-limit, limit)
    axes.yaxis.set_major_formatter(POINTS)
    axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("multiply-adds of a step, for one image", size=8, color=FADED)
    axes.set_ylabel("points more than the reference", size=8, color=FADED)
    axes.tick_params(labelsize=8, colors=FADED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(FADED)


def _told(rows: Sequence[ArmRow]) -> list[ArmRow]:
    """The arms that no other beats at less cost, and then the best."""

    def gain(row: ArmRow) -> float:
        return row.compared.difference.value if row.compared else -math.inf

    order = sorted(rows, key=lambda row: (row.cost or 0, -gain(row)))
    front: list[ArmRow] = []
    for row in order:
        if not front or gain(row) > gain(front[-1]):
            front.append(row)
    best = sorted((row for row in rows if row not in front), key=gain, reverse=True)
    return [*front, *best][:NAMED]


def _name_points(axes: Axes, results: Results, rows: Sequence[ArmRow]) -> None:
    """Names to the right of the axes, each with a line to its point; apart from each other."""
    low, high = axes.get_ylim()
    heights = [
        ((row.compared.difference.value if row.compared else 0.0) - low) / (high - low) for row in rows
    ]
    order = sorted(range(len(rows)), key=lambda at: heights[at])
    for at, height in zip(order, _apart([heights[at] for at in order]), strict=True):
        row = rows[at]
        value = row.compared.difference.value if row.compared else 0.0
        axes.annotate(
            figure_text(shortened(row.arm, LONGEST)),
            xy=(row.cost or 0, value),
            xytext=(1.06, height),
            textcoords="axes fraction",
            size=8,
            color=INK,
            weight="bold" if row.arm == results.reference else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": FADED,
                "linewidth": 0.4,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def _apart(heights: Sequence[float]) -> list[float]:
    """Rising heights, moved as little as it takes to be apart and within the axes."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + APART if placed else -math.inf))
    down = float(np.mean(placed) - np.mean(heights))
    down = min(max(down, placed[-1] - 1.0), placed[0]) if placed[-1] - placed[0] <= 1 else down
    return [height - down for height in placed]


def stability_figure(results: Results, rows: Sequence[ArmRow]) -> Figure | None:
    """The spectral radius of every arm with every seed, and how many images settle.

    None where the study does not ask for it.
    """
    if results.plan.study.analyses.stability is None:
        return None
    found = {(row.arm, row.seed): row for row in stability_rows(results)}
    seeds = results.plan.study.seeds
    said = (
        "spectral radius of a step where the states come to rest, by seed; above 1 (red) small changes grow"
    )
    wide = max(CELL * min(len(seeds), ROOM), 1.2)
    sheet = arm_sheet(results, rows, results.plan.study.study, said, wide=wide, notes=2.1)
    axes = sheet.content
    for row in rows:
        at = sheet.places[row.arm]
        for place, seed in enumerate(seeds):
            _draw_radius(axes, place, at, found[row.arm, seed].spectral_radius, len(seeds) <= ROOM)
        one = row.stability
        if one is not None:
            sheet.notes.text(0, at, figure_text(shortened(_said(one), 44)), size=7.5, color=INK, va="center")
    axes.set_xlim(0, len(seeds))
    named = seeds if len(seeds) <= ROOM else []
    axes.set_xticks(np.arange(len(named)) + 0.5, list(map(str, named)))
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("seed", size=8, color=FADED)
    return sheet.figure


def _draw_radius(axes: Axes, place: int, at: float, radius: float, told: bool) -> None:
    box = Rectangle((place + 0.03, at - 0.46), 0.94, 0.92, facecolor=radius_colour(radius))
    axes.add_patch(box)
    if told:
        shown = "?" if math.isnan(radius) else f"{radius:.3f}" if radius < 10 else f"{radius:.2g}"
        axes.text(place + 0.5, at, shown, size=7.5, color=DARK, ha="center", va="center")


def _said(arm: ArmStability) -> str:
    """``6 of 16 settle; cycle 10``."""
    if not arm.images:
        return "failed"
    told = f"{arm.settled} of {arm.images} settle"
    return f"{told}; {others_text(arm.others, '; ')}" if arm.others else told


def radius_colour(radius: float) -> str:
    """Blue below 1, red above, pale near it; grey where it is not known."""
    if math.isnan(radius):
        return NOTHING
    share = min(abs(radius - 1) / FAR, 1.0)
    return shade(UNSTABLE if radius > 1 else STABLE, 0.25 + 0.75 * share)
