"""All proposals of a search: what they are worth against what they cost, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pcgraph.display.safe import figure_text
from pcgraph.display.text import format_count
from pcgraph.report.figures import CYCLE, FADED, GRID, INK, ROUND, heading
from pcgraph.study.trials import Trial, Trials

SHARE = FuncFormatter(lambda share, _: f"{share:.1%}")
COUNT = FuncFormatter(lambda count, _: format_count(round(count)))


def search_figure(search: Trials) -> Figure:
    """The first objective against the second, or against the number of the trial where there is no second."""
    two = len(search.search.objectives) > 1
    figure = Figure(figsize=(6.4, 4.2), facecolor="white")
    what = "no other proposal beats those in blue" if two else "blue: the best until then"
    heading(figure, search.study.study, f"proposals on held-out images; {what}; black: the reference")
    axes = figure.add_axes((0.13, 0.13, 0.83, 0.7))
    whole = [one for one in search.trials if one.values]
    shown = search.front if two else _records(search, whole)
    _points(axes, whole, GRID, two)
    shown = sorted(shown, key=lambda one: _place(one, two))
    places = [_place(one, two) for one in shown]
    axes.step(
        [at for at, _ in places], [value for _, value in places], color=CYCLE[0], linewidth=0.8, where="post"
    )
    _points(axes, shown, CYCLE[0], two)
    _mark_reference(axes, search, two)
    axes.set_xlabel(_text(search.search.objectives[1]) if two else "trial", size=8, color=FADED)
    axes.set_ylabel(_text(search.search.objectives[0]), size=8, color=FADED)
    _furnish(axes, two and search.search.objectives[1] == "multiply_adds")
    return figure


def _records(search: Trials, whole: Sequence[Trial]) -> list[Trial]:
    """Each that is better than all before it."""
    found: list[Trial] = []
    for one in whole:
        if not found or search.objectives.losses(one.values) < search.objectives.losses(found[-1].values):
            found.append(one)
    return found


def _place(one: Trial, two: bool) -> tuple[float, float]:
    return (one.values[1] if two else float(one.number or 0)), one.values[0]


def _points(axes: Axes, trials: Sequence[Trial], colour: str, two: bool) -> None:
    places = [_place(one, two) for one in trials]
    edge = FADED if colour == GRID else colour
    axes.scatter(
        [at for at, _ in places],
        [value for _, value in places],
        s=22,
        color=colour,
        edgecolors=edge,
        linewidths=0.6,
    )


def _mark_reference(axes: Axes, search: Trials, two: bool) -> None:
    own = search.reference
    if own is None or not own.values:
        return
    if two:
        axes.plot(own.values[1], own.values[0], "D", color=INK, markersize=5)
    else:
        axes.axhline(own.values[0], color=INK, linewidth=0.8)


def _furnish(axes: Axes, counts: bool) -> None:
    axes.yaxis.set_major_formatter(SHARE)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
    if counts:
        axes.xaxis.set_major_formatter(COUNT)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=FADED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(FADED)


def _text(objective: str) -> str:
    """``multiply-adds of a step``; names of conditions as they are."""
    known = {"multiply_adds": "multiply-adds of a step, for one image", "spectral_radius": "spectral radius"}
    return figure_text(known.get(objective, objective))
