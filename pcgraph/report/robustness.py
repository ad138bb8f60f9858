"""Figures of an evaluation: accuracy over steps, distances to the clean states, success of attacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from pcgraph.display.safe import figure_text
from pcgraph.evaluation.conditions import CLEAN
from pcgraph.evaluation.corruptions import CORRUPTIONS
from pcgraph.evaluation.table import ALL, Row
from pcgraph.report.figures import CYCLE, FADED, INK, name_lines
from pcgraph.report.trajectory import Numbers

WIDE = 3
"""Panels side by side."""
MOST = 15
"""Conditions whose distances are drawn; the table has them all."""
SYMBOLS = {
    "gaussian": "σ ",
    "blur": "σ ",
    "salt_pepper": "share ",
    "occlusion": "share ",
    "low_contrast": "share ",
}
"""What stands before a level."""


@dataclass(frozen=True)
class Line:
    """A line with the band of its intervals."""

    x: Numbers
    value: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, rows: Sequence[Row], x: Callable[[Row], float] = lambda row: row.step) -> Line:
        """The rows' values over their steps, or over something else."""
        rows = sorted(rows, key=x)
        columns = [[x(row) for row in rows]]
        columns += [[getattr(row, name) for row in rows] for name in ("value", "low", "high")]
        return cls(*(np.array(column, dtype=float) for column in columns))


def evaluation_figures(title: str, rows: Sequence[Row]) -> dict[str, Figure]:
    """The figures that the results allow, by name: accuracy, corruptions, distances, attacks."""
    made = {
        "accuracy": accuracy_figure(title, rows),
        "corruptions": corruption_figure(title, rows),
        "distances": distance_figure(title, rows),
        "attacks": attack_figure(title, rows),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def accuracy_figure(title: str, rows: Sequence[Row]) -> Figure | None:
    """A panel for each kind of noise: accuracy at each step, a line for each level.

    Without labels it is the agreement with the clean answer at step 0.
    """
    metric = "accuracy" if any(row.metric == "accuracy" for row in rows) else "agreement"
    found = [row for row in rows if row.metric == metric and row.noise not in CORRUPTIONS]
    clean = [row for row in found if row.noise == CLEAN]
    kinds = list(dict.fromkeys(row.noise for row in found if row.noise != CLEAN)) or [CLEAN]
    subtitle = f"{metric}, {rows[0].n} images of {rows[0].data}; bands are 95% intervals"
    figure, panels = _panels(title, subtitle, len(kinds))
    for axes, kind in zip(panels, kinds, strict=True):
        levels = sorted({row.level for row in found if row.noise == kind and kind != CLEAN})
        lines = {CLEAN: Line.of(clean)} if clean else {}
        for level in levels:
            name = f"{SYMBOLS.get(kind, 'ε ' if '@' in kind else '')}{level:g}"
            lines[name] = Line.of([r for r in found if r.noise == kind and r.level == level])
        draw(axes, lines, kind, colours=[INK, *_shades(len(levels))], share=True)
    return figure


def corruption_figure(title: str, rows: Sequence[Row]) -> Figure | None:
    """The corruption error relative to step 0: the mean of all, and a panel for each corruption.

    Without labels it is the agreement with the clean answer at step 0, a line for each severity.
    """
    errors = [row for row in rows if row.metric in ("ce", "mce") and row.name == "step0"]
    agreement = [row for row in rows if row.metric == "agreement" and row.noise in CORRUPTIONS]
    found = errors or agreement
    names = sorted(dict.fromkeys(row.noise for row in found), key=lambda name: name != ALL)  # the mean first
    if not names:
        return None
    what = "error relative to step 0 (below 1 the dynamics help)" if errors else "agreement"
    subtitle = f"{what}, {rows[0].n} images of {rows[0].data}; bands are 95% intervals"
    figure, panels = _panels(title, subtitle, len(names), wide=5, size=(2.7, 2.2))
    for axes, name in zip(panels, names, strict=True):
        levels = sorted({row.level for row in found if row.noise == name})
        lines = {
            "" if errors else f"{level:g}": Line.of(
                [row for row in found if (row.noise, row.level) == (name, level)]
            )
            for level in levels
        }
        heading = "mean of the 15 (mCE)" if name == ALL else name.replace("_", " ")
        colours = [INK if name == ALL else CYCLE[0]] if errors else _shades(len(levels))
        draw(axes, lines, heading, colours=colours, share=not errors)
        if errors:
            axes.axhline(1, color=FADED, linewidth=0.8, linestyle="dashed")
    return figure


def distance_figure(title: str, rows: Sequence[Row]) -> Figure | None:
    """A panel for each noise: each node's correlation distance to its clean state, relative to step 0.

    This is the figure of Choksi et al. (2021) on the projection towards the clean manifold.
    """
    found = [row for row in rows if row.metric == "relative_distance" and "@" not in row.noise]
    keys = list(dict.fromkeys((row.noise, row.level) for row in found))[:MOST]
    if not keys:
        return None
    nodes = list(dict.fromkeys(row.name for row in found))
    low, high = min(row.low for row in found), max(row.high for row in found)
    margin = 0.05 * (high - low)
    subtitle = (
        f"correlation distance to the clean state of the same step, relative to step 0; {rows[0].n} images "
        f"of {rows[0].data}; bands are 95% intervals"
    )
    figure, panels = _panels(title, subtitle, len(keys))
    for axes, (noise, level) in zip(panels, keys, strict=True):
        lines = {
            node: Line.of([r for r in found if (r.noise, r.level, r.name) == (noise, level, node)])
            for node in nodes
        }
        heading = f"{noise} {SYMBOLS.get(noise, '')}{level:g}"
        draw(axes, lines, heading, colours=CYCLE, limits=(low - margin, high + margin))
        axes.axhline(1, color=FADED, linewidth=0.8, linestyle="dashed", zorder=0)
    return figure


def attack_figure(title: str, rows: Sequence[Row]) -> Figure | None:
    """Success over epsilon, at the step that was attacked, and over steps at the largest epsilon."""
    found = [row for row in rows if row.metric == "attack_success"]
    kinds = list(dict.fromkeys(row.noise for row in found))
    if not kinds:
        return None
    subtitle = f"success on {rows[0].data}, of images answered rightly before; bands are 95% intervals"
    figure, (left, right) = _panels(title, subtitle, 2, size=(4.6, 3.6))
    shown = {kind: [row for row in found if row.noise == kind] for kind in kinds}
    attacked = {
        kind: Line.of(
            [row for row in several if row.step == int(kind.rpartition("@")[2])], lambda row: row.level
        )
        for kind, several in shown.items()
    }
    lines = {}
    for kind, several in shown.items():
        strongest = max(row.level for row in several)
        lines[f"{kind} {strongest:g}"] = Line.of([row for row in several if row.level == strongest])
    draw(left, attacked, "at the attacked step (kind@step)", colours=CYCLE, x="epsilon", share=True)
    draw(right, lines, "at every step, at the largest epsilon", colours=CYCLE, share=True)
    return figure


def draw(
    axes: Axes,
    lines: Mapping[str, Line],
    what: str,
    colours: Sequence[str],
    x: str = "step",
    share: bool = False,
    limits: tuple[float, float] | None = None,
) -> None:
    """Lines with bands, each with its name at its end. A share runs from 0 to 1."""
    for index, (name, line) in enumerate(lines.items()):
        colour = colours[index % len(colours)]
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            line.x, line.value, color=colour, linewidth=1.8, marker="o", markersize=3, label=name or " "
        )
    axes.set_title(what, loc="left", size=10, color=INK)
    axes.set_xlabel(x, color=INK)
    if x == "step":
        steps = int(max((line.x[-1] for line in lines.values()), default=1))
        axes.set_xticks(range(0, steps + 1, max(1, -(-steps // 10))))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e8ee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FADED)
    if share:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if share or limits:
        axes.set_ylim(limits or (-0.03, 1.03))
    name_lines(axes)


def _panels(
    title: str, subtitle: str, count: int, wide: int = WIDE, size: tuple[float, float] = (4.2, 3.2)
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, with headings above them."""
    columns = min(count, wide)
    rows = -(-count // columns)
    height = size[1] * rows + 0.75
    width = max(size[0] * columns, 7.2)
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.62 / height))
    figure = Figure(figsize=(width, height), facecolor="white", layout=layout)
    figure.text(0.01, 1 - 0.08 / height, figure_text(title), color=INK, size=12, weight="bold", va="top")
    figure.text(0.01, 1 - 0.36 / height, figure_text(subtitle), color=FADED, size=9, va="top")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in axes[count:]:
        empty.set_visible(False)
    return figure, list(axes[:count])


def _shades(count: int) -> list[str]:
    """Colours from light to dark, for levels in their order."""
    return [to_hex(colormaps["viridis_r"](0.2 + 0.65 * place)) for place in np.linspace(0, 1, max(count, 2))][
        :count
    ]
