"""Evaluations on a page: every quantity over the steps and over the levels of the noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pcgraph.report.page.charts import Axis, Line, category, level
from pcgraph.report.page.parts import Chart, Group, Section, Table, group, interval, numbers
from pcgraph.report.page.reading import Row, RunFolder

CLEAN = "clean"
ORDER = (
    "accuracy",
    "gain",
    "agreement",
    "loss",
    "attack_success",
    "mce",
    "ce",
    "distance",
    "relative_distance",
)
LOWER = ("loss", "attack_success", "mce", "ce", "distance", "relative_distance")
"""What is better where it is lower; of `attack_success` that holds for the defender."""
SHARES = ("accuracy", "agreement", "attack_success")
Key = tuple[str, str, str, str]
"""Metric, data, name, noise: what one chart shows."""


def evaluation(title: str, runs: Sequence[RunFolder]) -> Section:
    """Evaluations: charts over steps (a line a level) and over levels, and a table of both ends."""
    keys = _keys(row for run in runs for row in run.rows)
    groups: list[Group] = []
    for metric in dict.fromkeys(key[0] for key in keys):
        own = [key for key in keys if key[0] == metric]
        axis = Axis("step", share=metric in SHARES)
        if len(runs) == 1:
            for noise in dict.fromkeys(key[3] for key in own):
                charts = [Chart(_part(key, own), _over_steps(runs[0], key)) for key in own if key[3] == noise]
                groups += _group(f"{_title(metric)}, {noise}", charts, axis)
        else:
            for key in own:
                charts = [Chart(run.label, _over_steps(run, key)) for run in runs]
                name = ", ".join(filter(None, (_title(metric), key[3], _part(key, own))))
                groups += _group(name, charts, axis)
        axis = Axis("level", share=metric in SHARES)
        charts = [
            Chart(", ".join(filter(None, (key[3], _part(key, own)))), _over_levels(runs, key)) for key in own
        ]
        groups += _group(f"{_title(metric)} at each level, first and last step", charts, axis)
    tables = [_both_ends(runs, metric) for metric in dict.fromkeys(key[0] for key in keys)]
    silent = [run.label for run in runs if not run.rows]
    notes = [f"{', '.join(silent)}: the table holds no row."] if silent else []
    notes += [NOTE] if any(row["low"] < row["high"] for run in runs for row in run.rows) else []
    return Section(title, groups, tables, notes=notes)


NOTE = "The bands are the intervals that the evaluation computed."


def _title(metric: str) -> str:
    return metric.replace("_", " ")


def _group(title: str, charts: Sequence[Chart], axis: Axis) -> list[Group]:
    shown = [chart for chart in charts if chart.lines]
    return [group(title, shown, axis)] if shown else []


def _part(key: Key, others: Sequence[Key]) -> str:
    """What tells a chart from the others of its metric and noise: the data, or what is measured."""
    parts = [part for place, part in enumerate(key[1:3], 1) if len({other[place] for other in others}) > 1]
    return ", ".join(part for part in parts if part)


def _keys(rows: Iterable[Row]) -> list[Key]:
    """What there is to show: a chart for each noise, or for the clean images where there is none."""
    found = dict.fromkeys((r["metric"], r["data"], r["name"], r["noise"]) for r in rows)
    noisy = {key[:3] for key in found if key[3] != CLEAN}
    kept = [key for key in found if key[3] != CLEAN or key[:3] not in noisy]
    rank = {metric: place for place, metric in enumerate(ORDER)}
    return sorted(kept, key=lambda key: rank.get(key[0], len(ORDER)))


def _series(run: RunFolder, key: Key) -> dict[float, list[Row]]:
    """The rows of a chart by level, each in the order of the steps.

    Level 0 are the clean images, unless the noise has a level 0 of its own: all severities together.
    """
    held: dict[float, list[Row]] = {}
    for noise in (key[3], CLEAN):
        if noise == CLEAN and 0.0 in held:
            continue
        for row in run.rows:
            if (row["metric"], row["data"], row["name"], row["noise"]) == (*key[:3], noise):
                held.setdefault(row["level"], []).append(row)
    return {at: sorted(held[at], key=lambda row: row["step"]) for at in sorted(held)}


def _over_steps(run: RunFolder, key: Key) -> list[Line]:
    held = _series(run, key)
    if all(len(rows) < 2 for rows in held.values()):
        return []
    lines = []
    for place, (at, rows) in enumerate(held.items()):
        x, y, low, high = (numbers([row[name] for row in rows]) for name in ("step", "value", "low", "high"))
        has = bool(np.isfinite(low).any())
        name = f"{at:g}" if at else CLEAN if rows[0]["noise"] == CLEAN else "all levels"
        colour = level(place, len(held))
        lines.append(Line(name, x, y, colour, low if has else None, high if has else None))
    return lines


def _over_levels(runs: Sequence[RunFolder], key: Key) -> list[Line]:
    """The first step dashed and the last solid, in the colour of the run."""
    lines = []
    for place, run in enumerate(runs):
        held = {at: rows for at, rows in _series(run, key).items() if rows}
        if len(held) < 3:
            continue
        for which, end in (("step 0", 0), ("last step", -1)):
            rows = [rows[end] for rows in held.values()]
            if end == 0 and all(len(rows) == 1 for rows in held.values()):
                continue
            y, low, high = (numbers([row[name] for row in rows]) for name in ("value", "low", "high"))
            has = bool(np.isfinite(low).any())
            name = which if len(runs) == 1 else f"{run.label}, {which}"
            x = numbers(list(held))
            colour = category(place)
            lines.append(Line(name, x, y, colour, low if has else None, high if has else None, end == 0))
    return lines


def _both_ends(runs: Sequence[RunFolder], metric: str) -> Table:
    """Each condition at the first step, at its best and at the last."""
    rows = []
    for run in runs:
        conditions: dict[tuple[str, str, str, float], list[Row]] = {}
        for row in run.rows:
            if row["metric"] == metric:
                place = row["data"], row["name"], row["noise"], row["level"]
                conditions.setdefault(place, []).append(row)
        for (data, name, noise, at), own in conditions.items():
            own = sorted(own, key=lambda row: row["step"])
            best = (min if metric in LOWER else max)(own, key=lambda row: row["value"])
            cells = [run.label] if len(runs) > 1 else []
            cells += [data, noise if noise == CLEAN else f"{noise} {at:g}", name]
            cells += [_shown(own[0]), f"{_shown(best)} at {best['step']}", _shown(own[-1])]
            rows.append([*cells, f"{own[-1]['value'] - own[0]['value']:+.3g}"])
    head = ["data", "condition", "of", "first step", "best step", "last step", "last − first"]
    if len(runs) > 1:
        head = ["run", *head]
    kept = [place for place in range(len(head)) if head[place] != "of" or any(row[place] for row in rows)]
    cut = [[row[place] for place in kept] for row in rows]
    note = "In brackets: the interval. The best step is chosen on these very images."
    return Table(_title(metric), [head[place] for place in kept], cut, note)


def _shown(row: Row) -> str:
    return interval(row["value"], row["low"], row["high"])
