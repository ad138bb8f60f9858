"""Results of an evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from pcgraph.evaluation.conditions import CLEAN
from pcgraph.evaluation.corruptions import CORRUPTIONS
from pcgraph.evaluation.table import Row

COLUMNS = 8
"""Conditions side by side; the others follow below."""
Best = Callable[[Iterable[float]], float]


def step_tables(rows: Sequence[Row]) -> list[Table]:
    """Accuracy, or agreement without labels, at each step of each condition, then what attacks achieved.

    The best step of each condition is bold. A severity stands for the mean over the corruptions at it.
    """
    metric = "accuracy" if any(row.metric == "accuracy" for row in rows) else "agreement"
    shown = [row for row in rows if row.metric == metric and row.noise not in CORRUPTIONS]
    images = rows[0].n
    tables = _tables(shown, f"{metric}, {images} images (with 95% intervals)", best=max)
    corrupted = [row for row in rows if row.metric == metric and row.noise in CORRUPTIONS]
    if corrupted:
        tables += _corruption_table(corrupted, metric)
    errors = [row for row in rows if row.metric == "mce"]
    if errors:
        tables += _tables(
            [_named(row, f"relative to {row.name}") for row in errors], "mean corruption error", best=min
        )
    attacks = [row for row in rows if row.metric == "attack_success"]
    if attacks:
        tables += _tables(attacks, "success of the attacks, of images answered rightly before", best=None)
    return tables


def distance_tables(rows: Sequence[Row]) -> list[Table]:
    """The correlation distance to the clean states of every node: at step 0, and at the last step."""
    found = [row for row in rows if row.metric == "distance" and row.noise != CLEAN]
    if not found:
        return []
    last = max(row.step for row in found)
    table = _table(f"correlation distance to the clean states, step 0 → step {last}", "condition")
    for node in dict.fromkeys(row.name for row in found):
        table.add_column(Text(node), justify="right")
    for heading in dict.fromkeys(_heading(row) for row in found):
        several = [row for row in found if _heading(row) == heading]
        starts = [row.value for row in several if row.step == 0]
        ends = [row.value for row in several if row.step == last]
        table.add_row(heading, *[f"{a:.3f} → {b:.3f}" for a, b in zip(starts, ends, strict=True)])
    return [table]


def _table(title: str, first: str) -> Table:
    """A table that is at least as wide as its title."""
    table = Table(title=Text(title), title_justify="left", title_style="bold", min_width=len(title))
    table.add_column(first)
    return table


def _named(row: Row, name: str) -> Row:
    return replace(row, noise=name, level=0.0)


def _heading(row: Row) -> str:
    return row.noise if row.level == 0 else f"{row.noise} {row.level:g}"


def _corruption_table(rows: Sequence[Row], metric: str) -> list[Table]:
    """A row a corruption: its mean over the severities at step 0, at the best step and at the last."""
    last = max(row.step for row in rows)
    table = _table(f"{metric} under corruptions, mean of the severities", "corruption")
    for heading in ("step 0", "best step", "", f"step {last}"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(row.noise for row in rows):
        mean = [_mean([r.value for r in rows if r.noise == name and r.step == s]) for s in range(last + 1)]
        best = max(range(last + 1), key=lambda step: mean[step])
        table.add_row(name, f"{mean[0]:.1%}", str(best), f"{mean[best]:.1%}", f"{mean[last]:.1%}")
    return [table]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _tables(rows: Sequence[Row], title: str, best: Best | None) -> list[Table]:
    """A column a condition, a row a step."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(_heading(row), []).append(row)
    tables = []
    for first in range(0, len(series), COLUMNS):
        names = list(series)[first : first + COLUMNS]
        table = _table(title if first == 0 else "", "step")
        for name in names:
            table.add_column(Text(name), justify="right")
        finest = {name: best(row.value for row in series[name]) if best else None for name in names}
        for step in range(len(series[names[0]])):
            cells = []
            for name in names:
                row = series[name][step]
                text = f"{row.value:.1%} ±{50 * (row.high - row.low):.1f}"
                cells.append(Text(text, style="bold" if row.value == finest[name] else ""))
            table.add_row(str(step), *cells)
        tables.append(table)
    return tables
