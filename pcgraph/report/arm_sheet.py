"""A figure with a row for each arm: its name, its wiring in small, and whatever is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.report.arcs import ArcDiagram, Frame, Stroke
from pcgraph.report.figures import FADED, INK, heading, heading_width
from pcgraph.report.label_places import text_width
from pcgraph.report.study import ArmRow
from pcgraph.spec import Edge
from pcgraph.study.arms import Wiring
from pcgraph.study.results import Results
from pcgraph.study.values import edge_name

# All lengths are in inches.
ROW = 0.32
THUMBNAIL = 1.05
GAP = 0.45
"""Between groups of rows, as a share of a row."""
LONGEST = 40
"""Characters of an arm's name that are shown."""
MARGIN, TOP, BOTTOM = 0.12, 0.62, 0.55


@dataclass(frozen=True)
class Sheet:
    """A figure and where its rows are.

    Attributes:
        figure: The figure.
        content: Axes for what is told of the arms; a row is 1 high.
        notes: Axes for a text at the right end of each row; x from 0 to 1.
        places: The height of each arm's row, the first at 0 and the others below it.
    """

    figure: Figure
    content: Axes
    notes: Axes
    places: Mapping[str, float]


def arm_sheet(
    results: Results, rows: Sequence[ArmRow], title: str, subtitle: str, *, wide: float, notes: float
) -> Sheet:
    """Draw names and wirings of the arms, and leave room for the rest.

    Args:
        results: The study.
        rows: The arms.
        title: The heading.
        subtitle: What is shown, in a line.
        wide: The width of what is told of them, in inches.
        notes: The width of the texts to the right of it.
    """
    wirings = {one.name: one for one in results.plan.arms.wirings}
    places = _places([wirings[row.arm] for row in rows])
    names = {row.arm: figure_text(shortened(row.arm, LONGEST)) for row in rows}
    label = max(text_width(name, 8, bold=True) for name in names.values()) + 0.15
    count = 1 - min(places.values())
    parts = (label, THUMBNAIL, wide, notes)
    width = max(sum(parts) + 5 * MARGIN, heading_width(title, subtitle))
    height = TOP + ROW * count + BOTTOM
    figure = Figure(figsize=(width, height), facecolor="white")
    axes, left = [], MARGIN
    for part in parts:
        axes.append(figure.add_axes((left / width, BOTTOM / height, part / width, ROW * count / height)))
        axes[-1].set(ylim=(0.5 - count, 0.5), facecolor="none")
        left += part + MARGIN
    texts, wiring, content, noted = axes
    for one in (texts, wiring, noted):
        one.set(xlim=(0, 1))
        one.axis("off")
    _draw_names(texts, names, places, results.reference)
    diagram = ArcDiagram(results.plan.arms.graph)
    for row in rows:
        frame = Frame(0.06, 0.94, places[row.arm] - 0.22, 0.62, 0.2, scale=0.9)
        diagram.draw(wiring, frame, thumbnail(wirings[row.arm], row))
    heading(figure, title, subtitle)
    _furnish(content)
    return Sheet(figure, content, noted, places)


def _furnish(axes: Axes) -> None:
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FADED)
    axes.tick_params(axis="x", labelsize=8, colors=FADED)


def thumbnail(wiring: Wiring, row: ArmRow) -> list[tuple[Edge, Stroke]]:
    """Its feedback edges, with what was taken out dotted."""
    left = set(row.edges)
    return [
        (edge, Stroke() if edge_name(edge) in left else Stroke(FADED, 0.9, cut=True)) for edge in wiring.edges
    ]


def _draw_names(axes: Axes, names: Mapping[str, str], places: Mapping[str, float], reference: str) -> None:
    for arm, name in names.items():
        weight = "bold" if arm == reference else "normal"
        axes.text(1, places[arm], name, size=8, weight=weight, color=INK, ha="right", va="center")


def _places(wirings: Sequence[Wiring]) -> dict[str, float]:
    """A row each; arms, points of grids, lesions and controls apart from each other."""
    places: dict[str, float] = {}
    at, before = 0.0, ""
    for one in wirings:
        kind = "arm" if one.kind == "drawn" else one.kind
        at -= 0.0 if not places else 1.0 + (GAP if kind != before else 0.0)
        places[one.name], before = at, kind
    return places
