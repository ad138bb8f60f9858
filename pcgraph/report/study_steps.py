"""Accuracy of the arms of a study over the steps, a panel for each condition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.report.figures import CYCLE, FADED, GRID, INK, ROUND, heading, heading_width
from pcgraph.report.label_places import text_width
from pcgraph.report.study import ArmRow, condition_text
from pcgraph.study.results import Results

PER_CENT = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")
WIDE = 3
"""Panels side by side."""
PANEL = (2.9, 2.3)
"""Inches."""
COLOURS = CYCLE[:6]
"""More arms than there are colours are grey, but for the best and the worst of them."""
BEST = 4
LONGEST = 34


def steps_figure(results: Results, rows: Sequence[ArmRow]) -> Figure:
    """The reference in black, others in colours; of many, the best and the worst, and all others in grey.

    Lesions are not drawn: they have a figure of their own.
    """
    cut = {one.name for one in results.plan.arms.wirings if one.cut is not None}
    arms = [row for row in rows if row.arm not in cut and not row.failed]
    colours = arm_colours(results, arms)
    others = [row.arm for row in arms if row.arm not in colours]
    conditions = results.plan.conditions
    columns = min(len(conditions), WIDE)
    lines = math.ceil(len(conditions) / columns)
    names = [figure_text(shortened(name, LONGEST)) for name in colours]
    legend = max(text_width(name, 8) for name in [*names, "(00 others)"]) + 0.75
    study = results.plan.study
    title, said = study.study, f"{study.evaluate.word} over the steps, mean over seeds"
    width = max(PANEL[0] * columns + legend, heading_width(title, said))
    height = max(PANEL[1] * lines + 0.75, 0.21 * len(names) + 1.2)
    figure = Figure(figsize=(width, height), facecolor="white")
    heading(figure, title, said)
    for place, condition in enumerate(conditions):
        row, column = divmod(place, columns)
        corner = (0.62 + PANEL[0] * column, height - 0.98 - (PANEL[1] - 0.75) - PANEL[1] * row)
        size = (PANEL[0] - 0.75, PANEL[1] - 0.75)
        box = (corner[0] / width, corner[1] / height, size[0] / width, size[1] / height)
        _draw_panel(figure.add_axes(box), results, condition, colours, others)
    _draw_legend(figure, width - legend, names, list(colours.values()), len(others))
    return figure


def arm_colours(results: Results, rows: Sequence[ArmRow]) -> dict[str, str]:
    """A colour for each arm that is told from the others, the reference first."""
    names = [row.arm for row in rows]
    reference = [name for name in names if name == results.reference]
    rest = [name for name in names if name != results.reference]
    if len(rest) > len(COLOURS):
        order = sorted(rest, key=lambda name: -_mean(results, next(r for r in rows if r.arm == name)))
        chosen = {*order[:BEST], *order[BEST - len(COLOURS) :]}
        rest = [name for name in order if name in chosen]
    return {**dict.fromkeys(reference, INK), **dict(zip(rest, COLOURS, strict=False))}


def _mean(results: Results, row: ArmRow) -> float:
    return float(np.mean([row.accuracy[condition] for condition in results.plan.robust]))


def _draw_panel(
    axes: Axes, results: Results, condition: str, colours: Mapping[str, str], others: Sequence[str]
) -> None:
    for arm in [*others, *list(colours)[::-1]]:
        series = results.over_steps(arm, condition)
        if series is not None:
            width, strength = (1.5, 1.0) if arm in colours else (0.7, 0.45)
            colour = colours.get(arm, FADED)
            axes.plot(np.arange(len(series)), series, color=colour, linewidth=width, alpha=strength)
    axes.set_title(figure_text(condition_text(condition)), size=9, loc="left", color=INK)
    axes.set_xlabel("step", size=8, color=FADED, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.yaxis.set_major_formatter(PER_CENT)
    axes.tick_params(labelsize=8, colors=FADED)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(FADED)


def _draw_legend(
    figure: Figure, left: float, names: Sequence[str], colours: Sequence[str], others: int
) -> None:
    width, height = figure.get_size_inches()
    entries = list(zip(names, colours, [1.8] * len(names), strict=True))
    if others:
        entries.append((f"({others} other{'s' if others > 1 else ''})", FADED, 0.8))
    axes = figure.add_axes((left / width, 0, 1 - left / width, 1))
    axes.set(xlim=(left, width), ylim=(0, height))
    axes.axis("off")
    for place, (name, colour, stroke) in enumerate(entries):
        y = height - 0.9 - 0.21 * place
        axes.plot([left + 0.05, left + 0.35], [y, y], color=colour, linewidth=stroke)
        axes.text(left + 0.43, y, name, size=8, color=INK, va="center")
