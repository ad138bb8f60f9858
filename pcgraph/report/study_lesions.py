"""What each edge of a lesioned arm is worth: bars, and the arm with edges as wide as their effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.report.arcs import LONGEST, ArcDiagram, Frame, Stroke
from pcgraph.report.figures import FADED, GRID, INK, ROUND, heading, heading_width
from pcgraph.report.label_places import text_width
from pcgraph.report.study import ArmRow
from pcgraph.report.study_forest import BETTER, POINTS, WORSE
from pcgraph.spec import Edge
from pcgraph.study.arms import Wiring
from pcgraph.study.results import Results
from pcgraph.study.values import edge_name

NARROW, WIDEST = 0.5, 5.0
"""Points of the widths of edges."""
ROW = 0.3
GRAPH = 3.4
"""Inches."""


def lesion_figures(results: Results, rows: Sequence[ArmRow]) -> list[Figure]:
    """A figure for each arm that lesions were made of."""
    wirings = results.plan.arms.wirings
    whole = dict.fromkeys(one.of for one in wirings if one.cut is not None)
    kept = {row.arm: set(row.edges) for row in rows}
    return [
        lesion_figure(results, arm, [one for one in wirings if one.cut and one.of == arm], kept)
        for arm in whole
    ]


def lesion_figure(results: Results, arm: str, lesions: Sequence[Wiring], kept: dict[str, set[str]]) -> Figure:
    """Left: the arm, each edge as wide as its effect. Right: by how much accuracy falls without it."""
    losses = {str(one.cut): lost(results, one) for one in lesions}
    gone = {
        name: str(one.cut)
        for one in lesions
        for name in map(edge_name, one.edges)
        if name not in kept[one.name]
    }
    names = {term: figure_text(shortened(term, 2 * LONGEST)) for term in losses}
    label = max(text_width(name, 8) for name in names.values()) + 0.15
    title = f"{results.plan.study.study}: lesions of {shortened(arm, 40)}"
    word = results.plan.study.evaluate.word
    said = f"{word} lost without each error term, in points: mean over seeds; dots: single seeds, no interval"
    width = max(GRAPH + label + 4.1, heading_width(title, said))
    height = max(ROW * len(losses) + 1.3, 2.9)
    figure = Figure(figsize=(width, height), facecolor="white")
    heading(figure, title, said)
    graph = figure.add_axes((0.1 / width, 0, GRAPH / width, 1 - 0.6 / height))
    _draw_graph(graph, results, lesions[0].edges, losses, gone)
    left = GRAPH + 0.2 + label
    box = (left / width, 0.6 / height, (width - left - 0.3) / width, 1 - 1.3 / height)
    _draw_bars(figure.add_axes(box), losses, names)
    return figure


def lost(results: Results, lesion: Wiring) -> NDArray[np.float64] | None:
    """Accuracy of the whole arm less that of the lesioned one, (seeds,); None if a seed failed.

    The mean over the noisy conditions, each arm at the step that it is judged at.
    """
    found = []
    for condition in results.plan.robust:
        whole, rest = (results.right(name, condition) for name in (lesion.of, lesion.name))
        if whole is None or rest is None:
            return None
        found.append(whole.mean(axis=1) - rest.mean(axis=1))
    mean: NDArray[np.float64] = np.mean(found, axis=0)
    return mean


def _draw_graph(
    axes: Axes,
    results: Results,
    edges: Sequence[Edge],
    losses: dict[str, NDArray[np.float64] | None],
    gone: dict[str, str],
) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    means = {term: float(one.mean()) for term, one in losses.items() if one is not None}
    largest = max(map(abs, means.values()), default=0.0) or 1.0
    drawn = []
    for edge in edges:
        mean = means.get(gone.get(edge_name(edge), ""))
        if mean is None:
            drawn.append((edge, Stroke(FADED, NARROW, cut=True)))
        else:
            width = NARROW + (WIDEST - NARROW) * abs(mean) / largest
            drawn.append((edge, Stroke(_colour(mean), width)))
    drawn.sort(key=lambda one: -one[1].width)
    ArcDiagram(results.plan.arms.graph).draw(
        axes, Frame(0.1, 0.92, 0.34, 0.54, 0.06, 1.15), drawn, names=True
    )


def _draw_bars(axes: Axes, losses: dict[str, NDArray[np.float64] | None], names: dict[str, str]) -> None:
    for place, one in enumerate(reversed(losses.values())):
        if one is None:
            axes.text(0, place, " failed with some seed", size=7.5, color=FADED, va="center")
            continue
        mean = float(one.mean())
        axes.barh(place, mean, height=0.55, color=_colour(mean))
        if len(one) > 1:
            axes.plot(one, [place] * len(one), "o", color=INK, markersize=2.6, zorder=3)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(losses)), [names[term] for term in reversed(losses)], fontsize=8, color=INK)
    axes.set_ylim(-0.6, len(losses) - 0.4)
    low, high = axes.get_xlim()
    least = 0.005  # half a point: less is not to look like much
    axes.set_xlim(min(low, -least), max(high, least))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
    axes.xaxis.set_major_formatter(POINTS)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FADED)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, colors=FADED)
    axes.set_xlabel("points lost without it (the edge helped) are positive", size=8, color=FADED)


def _colour(mean: float) -> str:
    return FADED if mean == 0 else BETTER if mean > 0 else WORSE
