"""Trainings on a page: how each loss fell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pcgraph.report.page.charts import Axis, Line, Numbers, category
from pcgraph.report.page.parts import Chart, Group, Section, Table, group, numbers
from pcgraph.report.page.reading import RunFolder

MOST = 200
"""Points of a curve that are drawn; of more, neighbours are averaged."""
TRAIN = "train"


def training(title: str, runs: Sequence[RunFolder]) -> Section:
    """The losses of trainings, a chart a loss, all runs in the same charts."""
    groups: list[Group] = []
    rows: list[list[str]] = []
    names = list(dict.fromkeys(str(row["name"]) for run in runs for row in run.rows))
    for name in names:
        lines: list[Line] = []
        for place, run in enumerate(runs):
            own = [row for row in run.rows if row["name"] == name]
            for split in dict.fromkeys(str(row["split"]) for row in own):
                points = sorted((row["step"], row["value"]) for row in own if row["split"] == split)
                x, y = numbers([x for x, _ in points]), numbers([y for _, y in points])
                label = f"{run.label}, {split}" if len(runs) > 1 else split
                colour = category(place if len(runs) > 1 else int(split != TRAIN))
                dashed = len(runs) > 1 and split != TRAIN
                lines.append(Line(label, *thinned(x, y), colour, dashed=dashed))
                finite = y[np.isfinite(y)]
                least = f"{finite.min():.4g}" if finite.size else ""
                rows.append([name, run.label, split, f"{y[0]:.4g}", f"{y[-1]:.4g}", least, f"{x[-1]:g}"])
        positive = all((line.y[np.isfinite(line.y)] > 0).all() for line in lines)
        groups.append(group(name, [Chart(name, lines)], Axis("step", log=positive)))
    head = ["what", "run", "split", "first", "last", "least", "steps"]
    silent = [run.label for run in runs if not run.rows]
    notes = [f"{', '.join(silent)}: no step was logged yet."] if silent else []
    return Section(
        title, side_by_side(groups), [Table("First and last", head, rows)] if rows else [], notes=notes
    )


def side_by_side(groups: Sequence[Group]) -> list[Group]:
    """Groups of one chart each, as one group, where their legends are the same."""
    joined: list[Group] = []
    for one in groups:
        if joined and joined[-1].legend == one.legend:
            last = joined.pop()
            one = Group("Losses", [*last.panels, *one.panels], one.legend)
        joined.append(one)
    return joined


def thinned(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """A long curve with neighbours averaged, so that at most `MOST` points are left."""
    if len(x) <= MOST:
        return x, y
    edges = np.linspace(0, len(x), MOST + 1).round().astype(int)
    pieces = [(x[start:end].mean(), y[start:end].mean()) for start, end in pairwise(edges)]
    return numbers([x for x, _ in pieces]), numbers([y for _, y in pieces])
