"""A wiring as arcs over a row of nodes: small enough to stand in a line of a figure.

The nodes stand in a row from the image on; an edge that leads down is an arc above the row, one that leads
up an arc below it (Wattenberg, "Arc diagrams", IEEE InfoVis 2002).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from pcgraph.display.safe import figure_text
from pcgraph.display.text import shortened
from pcgraph.graph import PCGraph
from pcgraph.report.figures import CYCLE, FADED, INK
from pcgraph.report.placement import levels
from pcgraph.spec import Edge

FEEDBACK = CYCLE[1]
REACHED = 0.75
"""A cubic curve rises to so much of its controls' height."""
LONGEST = 14
"""Characters of a node's name that are shown."""


@dataclass(frozen=True)
class Stroke:
    """How the edges of one name are drawn.

    Attributes:
        colour: Of the arc.
        width: In points.
        cut: Whether it is dotted, as one that was taken out.
    """

    colour: str = FEEDBACK
    width: float = 1.0
    cut: bool = False


@dataclass(frozen=True)
class Frame:
    """Where a diagram goes, in the coordinates of its axes.

    Attributes:
        left: Where the first node stands.
        right: Where the last one stands.
        row: The height of the row.
        above: The height of the largest arc that there can be.
        below: The same for arcs below the row.
        scale: How large arrow heads and nodes are.
    """

    left: float
    right: float
    row: float
    above: float
    below: float
    scale: float = 1.0


class ArcDiagram:
    """The nodes of a graph in a row, and what all its wirings have in common.

    Args:
        graph: The graph without feedback.
    """

    def __init__(self, graph: PCGraph) -> None:
        rank = levels(graph)
        self.nodes = sorted(graph.nodes, key=lambda name: rank[name])
        self.place = {name: place for place, name in enumerate(self.nodes)}
        ends = ((source, edge.target) for edge in graph.edges.values() for source in edge.sources)
        self.given = list(dict.fromkeys((source, target) for source, target in ends if source != target))

    def draw(
        self, axes: Axes, frame: Frame, edges: Sequence[tuple[Edge, Stroke]], *, names: bool = False
    ) -> None:
        """Draw one wiring.

        Args:
            axes: Where.
            frame: Its place.
            edges: The feedback edges, each with its stroke.
            names: Whether the nodes' names are written.
        """
        for source, target in self.given:
            self._draw_given(axes, frame, source, target)
        seen: Counter[tuple[str, str]] = Counter()
        for edge, stroke in edges:
            for source in edge.sources:
                again = seen[source, edge.target]
                seen[source, edge.target] += 1
                self._draw_arc(axes, frame, (source, edge.target), stroke, edge.delay, again)
        for name in self.nodes:
            size = 2.6 * frame.scale
            axes.plot(self._x(frame, name), frame.row, "o", color=INK, markersize=size, zorder=3)
        if names:
            self._draw_names(axes, frame)

    def _x(self, frame: Frame, name: str, aside: float = 0.0) -> float:
        count = max(len(self.nodes) - 1, 1)
        return frame.left + (frame.right - frame.left) * (self.place[name] + aside) / count

    def _draw_given(self, axes: Axes, frame: Frame, source: str, target: str) -> None:
        if self.place[target] - self.place[source] == 1:
            ends = [self._x(frame, source), self._x(frame, target)]
            axes.plot(ends, [frame.row] * 2, color=FADED, linewidth=0.6 * frame.scale, zorder=1)
            return
        path = self._path(frame, source, target, 0)
        axes.add_patch(
            FancyArrowPatch(path=path, arrowstyle="-", color=FADED, linewidth=0.5 * frame.scale, zorder=1)
        )

    def _draw_arc(
        self, axes: Axes, frame: Frame, ends: tuple[str, str], stroke: Stroke, delay: int | None, again: int
    ) -> None:
        path, scale = self._path(frame, *ends, again), frame.scale
        head = f"-|>,head_length={1.5 * scale},head_width={0.8 * scale}"
        width = stroke.width * scale
        axes.add_patch(
            FancyArrowPatch(
                path=path,
                arrowstyle="-" if stroke.cut else head,
                mutation_scale=1 + 0.35 * max(width - 1, 0),
                linestyle=(0, (1, 1.6)) if stroke.cut else "solid",
                linewidth=width,
                color=stroke.colour,
                shrinkA=0,
                shrinkB=0,
                capstyle="butt",
                zorder=2,
            )
        )
        if delay is not None:
            self._draw_delay(axes, frame, path, delay)

    def _draw_delay(self, axes: Axes, frame: Frame, path: Path, delay: int) -> None:
        x, y = np.asarray(path.vertices)[1:3].mean(axis=0)
        axes.text(
            x,
            frame.row + (y - frame.row) * REACHED,
            f"{delay}",
            size=5.0 * frame.scale,
            color=INK,
            ha="center",
            va="center",
            zorder=4,
            bbox={"boxstyle": "round,pad=0.08", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )

    def _path(self, frame: Frame, source: str, target: str, again: int) -> Path:
        """From a node to another; edges that lead down leave to the left and arrive from the right."""
        one, other = self.place[source], self.place[target]
        if one == other:
            begin, end = self._x(frame, source, 0.16), self._x(frame, source, -0.16)
            reach = frame.above * (0.45 + 0.15 * again)
        else:
            side = 0.1 if one > other else -0.1
            begin, end = self._x(frame, source, -side), self._x(frame, target, side)
            share = (abs(one - other) / max(len(self.nodes) - 1, 1)) ** 0.7
            reach = (frame.above if one > other else -frame.below) * share * (1 - 0.18 * min(again, 3))
        top = frame.row + reach / REACHED
        over = [(begin, top), (end, top)]
        return Path([(begin, frame.row), *over, (end, frame.row)], [Path.MOVETO, *[Path.CURVE4] * 3])

    def _draw_names(self, axes: Axes, frame: Frame) -> None:
        for name in self.nodes:
            shown = figure_text(shortened(name, LONGEST))
            below = frame.row - frame.below - 0.02
            axes.text(
                self._x(frame, name), below, shown, size=7.5, color=INK, rotation=35, ha="right", va="top"
            )
