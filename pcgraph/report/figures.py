"""Figures of a run: class probabilities and energies over steps, and predictions as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation
from numpy.typing import NDArray

from pcgraph.display.safe import figure_text
from pcgraph.report.label_places import text_width
from pcgraph.report.summary import first_class, mean_energy
from pcgraph.report.trajectory import Numbers, Trajectory

INK = "#1d2733"
FADED = "#66727f"
GRID = "#e3e8ee"
DARK, NOTHING, PALE = "#1c2631", "#e9ecef", "#f7f7f7"
"""Of cells of maps: numbers on them, what is not known, and the least."""
ROUND = (1, 2, 5, 10)
"""First digits of the distances between ticks."""
CYCLE = ("#20609f", "#c4472b", "#2f8f5b", "#8a5bb0", "#c98a1b", "#3aa0b5", "#7a7f87", "#b04a7e")
STYLES = ("solid", "dashed", "dotted")
APART = 0.062
"""Least distance of two lines' names, as a share of the axes' height."""
Picture = NDArray[np.float32]


def shade(full: str, share: float) -> str:
    """So much of a colour, on the way from `PALE`."""
    least, most = np.array(to_rgb(PALE)), np.array(to_rgb(full))
    return to_hex(least + share * (most - least))


def heading_width(title: str, said: str) -> float:
    """Inches that a figure with this heading takes at least."""
    return max(text_width(title, 11, bold=True), text_width(said, 8)) + 0.3


def heading(figure: Figure, title: str, said: str) -> None:
    """A title at the top left, and a line below it."""
    width, height = figure.get_size_inches()
    above, lower, left = 1 - 0.1 / height, 1 - 0.34 / height, 0.12 / width
    figure.text(left, above, figure_text(title), size=11, weight="bold", color=INK, va="top")
    figure.text(left, lower, figure_text(said), size=8, color=FADED, va="top")


def run_figure(
    title: str, terms: Sequence[str], labels: Sequence[str], trajectories: Sequence[Trajectory]
) -> Figure:
    """Left: the classes of one image, or how the first answers of many fare. Right: the energies."""
    classes = bool(trajectories[0].classes)
    figure = Figure(figsize=(10.4 if classes else 6.4, 4.2), facecolor="white", layout="constrained")
    figure.suptitle(figure_text(title), x=0.012, ha="left", weight="bold", color=INK, size=12)
    *first, last = figure.subplots(1, 2 if classes else 1, squeeze=False)[0]
    for axes in first:
        if len(trajectories) == 1:
            draw_classes(axes, trajectories[0], labels)
        else:
            draw_answers(axes, trajectories)
    draw_energies(last, terms, mean_energy(trajectories))
    return figure


def draw_classes(axes: Axes, trajectory: Trajectory, labels: Sequence[str], most: int = 5) -> None:
    """The probabilities of one image's classes over the steps."""
    peak = trajectory.probability.max(axis=1)
    chosen = sorted(np.argsort(-peak, kind="stable")[:most])  # classes come with the last step's best first
    lines = {labels[trajectory.classes[index]]: trajectory.probability[index] for index in chosen}
    _draw_lines(axes, lines, "class probabilities", share=True)


def draw_answers(axes: Axes, trajectories: Sequence[Trajectory]) -> None:
    """How the answers of step 0 fare over the steps, in many images."""
    probability, kept = first_class(trajectories)
    lines = {"still the best class": kept, "mean probability": probability}
    _draw_lines(axes, lines, f"answer of step 0, {len(trajectories)} images", share=True)


def draw_energies(axes: Axes, terms: Sequence[str], energy: Numbers) -> None:
    """The energy of every edge over the steps, on a logarithmic scale.

    Zeros are not drawn: those of the feedforward edges, where a run starts from the plain network.
    """
    drawn = {term: np.where(series > 0, series, np.nan) for term, series in zip(terms, energy, strict=True)}
    lines = {term: series for term, series in drawn.items() if np.isfinite(series).any()}
    _draw_lines(axes, lines, "energy of each edge")


def _draw_lines(axes: Axes, lines: Mapping[str, Numbers], what: str, share: bool = False) -> None:
    """Lines over steps, each with its name at its end. A share runs from 0 to 1."""
    for index, (name, values) in enumerate(lines.items()):
        style = STYLES[index // len(CYCLE) % len(STYLES)]
        colour, shown = CYCLE[index % len(CYCLE)], figure_text(name)
        axes.plot(values, color=colour, linestyle=style, linewidth=1.8, marker="o", markersize=3, label=shown)
    steps = max((len(values) for values in lines.values()), default=1) - 1
    axes.set_xlim(-0.02 * steps - 0.1, steps * 1.02 + 0.1)
    axes.set_xticks(range(0, steps + 1, max(1, steps // 10)))
    axes.set_xlabel("step", color=INK)
    axes.set_title(what, loc="left", size=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FADED)
    if share:
        axes.set_ylim(-0.03, 1.03)
    elif lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PowerFormatter())
        axes.yaxis.set_minor_formatter(PowerFormatter())
    name_lines(axes)


class PowerFormatter(LogFormatterSciNotation):
    """``10⁻⁵`` and ``2·10⁻⁵`` at the ticks where matplotlib writes formulas, which take it long to set."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick; empty where it has none."""
        digits, _, exponent = f"{x:.5e}".partition("e")
        return times_ten(f"{float(digits):g}", int(exponent)) if super().__call__(x, pos) else ""


def times_ten(digits: str, exponent: int) -> str:
    """A number with its power of ten: ``2·10⁶``, and ``10⁶`` for one of them."""
    ten = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return ten if digits == "1" else f"{digits}·{ten}"


def name_lines(axes: Axes) -> None:
    """Write each line's name at its end, apart from the others; one without a finite value has no end."""
    low, high = axes.get_ylim()
    scale = np.log if axes.get_yscale() == "log" else np.asarray
    lines, heights = [], []
    for line in axes.lines:
        values = np.asarray(line.get_ydata(), dtype=float)
        finite = values[np.isfinite(values)]
        if not len(finite):
            continue
        lines.append(line)
        heights.append(float((scale(finite[-1]) - scale(low)) / (scale(high) - scale(low))))
    placed: list[tuple[int, float]] = []
    for index in sorted(range(len(heights)), key=lambda index: heights[index]):
        lowest = placed[-1][1] + APART if placed else -1.0
        placed.append((index, max(heights[index], lowest)))
    above = 1.02
    for index, height in reversed(placed):  # and back down, where they pile up over the top
        height = min(height, above)
        above = height - APART
        line = lines[index]
        axes.annotate(
            str(line.get_label()),
            (1.01, height),
            xycoords="axes fraction",
            color=line.get_color(),
            size=8,
            va="center",
            annotation_clip=False,
        )


# ---- predictions as pictures ---------------------------------------------------------------------


def draw_predictions(axes: NDArray[Any], pictures: Sequence[Prediction]) -> None:
    """What each level predicts of the level below: a column an edge, with target, prediction, error.

    Args:
        axes: Three rows, and a column for each of the pictures.
        pictures: The edges.
    """
    for column, shown in enumerate(pictures):
        both = np.concatenate([shown.target.ravel(), shown.prediction.ravel()])
        limits = {"vmin": float(both.min()), "vmax": float(both.max())}
        wide = float(np.abs(shown.error).max()) or 1.0
        for axis, picture in zip(axes[:2, column], (shown.target, shown.prediction), strict=True):
            axis.imshow(picture, **({} if picture.ndim == 3 else {"cmap": "viridis", **limits}))
        axes[2, column].imshow(shown.error, cmap="RdBu_r", vmin=-wide, vmax=wide)
        axes[0, column].set_title(figure_text(shown.edge), size=9, color=INK)
        axes[2, column].set_xlabel(f"±{wide:.2g}", size=7.5, color=FADED, labelpad=2)
    for row, name in zip(axes, ("target", "prediction", "error"), strict=True):
        row[0].set_ylabel(name, size=9, color=INK)
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)


@dataclass(frozen=True)
class Prediction:
    """One edge's prediction of one image, as pictures.

    Attributes:
        edge: The edge's name.
        target: The target's state: (height, width) averaged over channels, or an RGB picture.
        prediction: What the edge predicts, likewise.
        error: Target less prediction, averaged over channels.
    """

    edge: str
    target: Picture
    prediction: Picture
    error: Picture


def demo_figure(
    title: str,
    note: str,
    terms: Sequence[str],
    labels: Sequence[str],
    shown: Mapping[str, tuple[Picture, Trajectory, Sequence[Prediction]]],
) -> Figure:
    """A column for each version of an image: the image, its classes, its energies, its predictions.

    Args:
        title: The heading.
        note: A line below it.
        terms: Names of the error terms.
        labels: Names of the classes.
        shown: By the version's name: the picture that the network saw, what it did in the run, and
            the predictions at the last step.
    """
    figure = Figure(figsize=(8.2 * len(shown), 13.2), facecolor="white", layout="constrained")
    figure.suptitle(f"{figure_text(title)}\n", x=0.01, ha="left", weight="bold", color=INK, size=15)
    figure.text(0.01, 0.972, figure_text(note), color=FADED, size=10.5, va="top")
    parts = figure.subfigures(1, len(shown), wspace=0.04, squeeze=False)[0]
    for part, (name, (picture, trajectory, predictions)) in zip(parts, shown.items(), strict=True):
        part.suptitle(figure_text(name), weight="bold", color=INK, size=12)
        upper, energies, lower = part.subfigures(3, 1, height_ratios=(1, 1, 1.45))
        image, classes = upper.subplots(1, 2, width_ratios=(1, 1.75))
        image.imshow(picture)
        image.axis("off")
        draw_classes(classes, trajectory, labels)
        draw_energies(energies.subplots(), terms, trajectory.energy)
        lower.suptitle(f"predictions at step {trajectory.steps}", x=0.02, ha="left", size=10, color=INK)
        draw_predictions(lower.subplots(3, len(predictions), squeeze=False), predictions)
    return figure
