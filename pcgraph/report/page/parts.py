"""What a page is made of: sections, groups of charts that share their axes, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pcgraph.report.page.charts import Axis, Line, Numbers, css, draw, limits

ROWS = 25
"""Up to so many rows of a chart's numbers are shown; of more, so many are picked evenly."""


@dataclass(frozen=True)
class Table:
    """A table; all cells are plain text.

    Attributes:
        title: What it shows; may be empty.
        head: Names of the columns.
        rows: The cells.
        note: A sentence below it; may be empty.
        code: Whether the cells are settings or code rather than words and numbers.
        folded: Whether it is shown only when it is asked for.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    code: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Entry:
    """A line of a legend: what it is called and, as CSS, its colour."""

    name: str
    colour: str
    dashed: bool


@dataclass(frozen=True)
class Panel:
    """A chart, drawn: its caption, the `svg` element, its numbers, and a legend where it has its own."""

    caption: str
    svg: str
    numbers: Table
    legend: Sequence[Entry] = ()


@dataclass(frozen=True)
class Group:
    """Charts that are seen together: with the same values along the vertical axis, and often one legend."""

    title: str
    panels: Sequence[Panel]
    legend: Sequence[Entry] = ()


@dataclass(frozen=True)
class Strip:
    """Pictures in a row; each is a data URI with its caption."""

    title: str
    pictures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own.

    Attributes:
        title: The heading.
        groups: Charts.
        tables: Tables.
        strips: Pictures in rows.
        images: Pictures by their captions, as data URIs.
        drawings: `svg` elements by their captions, made to fit the screen.
        plots: `svg` elements by their captions, as large as they are.
        notes: What one should know, above all else.
        texts: Texts by their captions, shown when they are asked for.
    """

    title: str
    groups: Sequence[Group] = ()
    tables: Sequence[Table] = ()
    strips: Sequence[Strip] = ()
    images: Sequence[tuple[str, str]] = ()
    drawings: Sequence[tuple[str, str]] = ()
    plots: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    texts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Chart:
    """A chart to be drawn: its caption and its lines."""

    caption: str
    lines: Sequence[Line]


def group(title: str, charts: Sequence[Chart], axis: Axis) -> Group:
    """Draw charts over the same range of values, and over the same steps.

    They have one legend, unless each shows other things.
    """
    lines = [line for chart in charts for line in chart.lines]
    if axis.log and not any((line.y > 0).any() for line in lines):
        axis = Axis(axis.x, axis.share)
    within = limits(lines, axis)
    legends = [_legend(chart.lines) for chart in charts]
    every = _legend(lines)
    shared = len({(entry.colour, entry.dashed) for entry in every}) == len(every)  # one meaning each
    panels = []
    for chart, legend in zip(charts, legends, strict=True):
        reach = _reach(lines if axis.x == "step" else chart.lines)
        drawn = draw(f"{title}: {chart.caption}", chart.lines, axis, within, reach)
        panels.append(Panel(chart.caption, drawn, _numbers(chart, axis), [] if shared else legend))
    return Group(title, panels, every if shared else [])


def _legend(lines: Sequence[Line]) -> list[Entry]:
    return list(dict.fromkeys(Entry(line.name, css(line.colour), line.dashed) for line in lines))


def _reach(lines: Sequence[Line]) -> tuple[float, float]:
    places = np.concatenate([line.x for line in lines])
    air = float(places.max() - places.min()) * 0.03 or 0.5
    return float(places.min()) - air, float(places.max()) + air


def _numbers(chart: Chart, axis: Axis) -> Table:
    places = sorted({float(x) for line in chart.lines for x in line.x})
    if len(places) > ROWS:
        places = [places[index] for index in np.linspace(0, len(places) - 1, ROWS).round().astype(int)]
    held = [dict(zip(line.x.tolist(), range(len(line.x)), strict=True)) for line in chart.lines]
    rows = []
    for x in places:
        cells = [f"{x:g}"]
        for line, at in zip(chart.lines, held, strict=True):
            cells.append(_cell(line, at[x]) if x in at else "")
        rows.append(cells)
    return Table("", [axis.x, *(line.name for line in chart.lines)], rows)


def _cell(line: Line, place: int) -> str:
    low = None if line.low is None else float(line.low[place])
    high = None if line.high is None else float(line.high[place])
    return interval(float(line.y[place]), low, high)


def interval(value: float, low: float | None, high: float | None) -> str:
    """``0.81 [0.79, 0.83]``; empty where there is no value."""
    if not math.isfinite(value):
        return "" if math.isnan(value) else f"{value:g}"
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:.4g}"
    return f"{value:.4g} [{low:.4g}, {high:.4g}]"


def numbers(values: Sequence[float]) -> Numbers:
    """A row of numbers as an array."""
    return np.asarray(values, dtype=np.float64)
