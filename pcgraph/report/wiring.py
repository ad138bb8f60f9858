"""The wiring of a network, drawn: nodes in levels from the image upwards, edges as strokes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from pcgraph.display.safe import figure_text
from pcgraph.graph import Edge, PCGraph
from pcgraph.network import PCNetwork
from pcgraph.report.label_places import Box, best_place, sampled, text_width
from pcgraph.report.labels import gain_text, rate_text, rule_text, shape_text, start_text
from pcgraph.report.placement import levels
from pcgraph.report.routes import BOX_HEIGHT, JUNCTION, Joint, Point, Routes

# Everything is in inches: the axes' data are inches on paper, and text widths are measured.
LOOP = 0.3
MARGIN = 0.35
WIDEST = 3.0
MANY = 80
"""Edges from which on the labels would hide the strokes; they are left out then."""

INK = "#1d2733"
FADED = "#66727f"
BOX = "#f5f8fc"
BOX_OF_IMAGE = "#e4ebf4"
BOX_FREE = "#fdf7ea"
COLOURS = {"feedforward": "#20609f", "feedback": "#c4472b"}
DASHES: dict[str, Any] = {"feedforward": "solid", "feedback": (0, (4.2, 2.2))}


def wiring_figure(wired: PCNetwork | PCGraph) -> Figure:
    """Draw the nodes and edges of a network, or of a graph alone, which knows no gains.

    Feedforward edges are solid and rise, feedback edges are dashed; each carries its gains and its
    delay. Edges with several sources, and the edges of a bundle (marked Σ), join before they arrive.
    A node whose state begins at a learned guess says in its box from what.
    """
    return _Drawing(wired).draw()


class _Drawing:
    def __init__(self, wired: PCNetwork | PCGraph) -> None:
        self.network = None if isinstance(wired, PCGraph) else wired
        self.graph = wired if isinstance(wired, PCGraph) else wired.graph
        self.gains = None if self.network is None else self.network.dynamics.gains(1)
        self.labelled = len(self.graph.edges) <= MANY
        self.labels = {edge.name: self._label(edge) for edge in self.graph.edges.values()}
        self.label_width = {name: text_width(text, 7.5) + 0.1 for name, text in self.labels.items()}
        self.loops: dict[str, list[Edge]] = defaultdict(list)
        for edge in self.graph.edges.values():
            if edge.target in edge.sources:
                self.loops[edge.target].append(edge)
        self.box_width = self._box_widths()
        halves = {name: self._half_width(name) for name in self.graph.nodes}
        self.routes = Routes(self.graph, self.box_width, halves, self.label_width)
        self.taken: list[Box] = []
        self.paths: dict[tuple[str, str], Path] = {}

    def draw(self) -> Figure:
        name = figure_text(self.network.spec.name) if self.network else ""
        rule, letters = rule_text(self.network) if self.network else "", self._letters()
        left, right = self.routes.extent()
        left, right = left - MARGIN, right + MARGIN
        header = max(text_width(name, 13, bold=True), text_width(rule, 8.5), text_width(letters, 8))
        missing = max(header, self._legend_width()) + 2 * MARGIN - (right - left)
        left, right = left - max(missing, 0) / 2, right + max(missing, 0) / 2
        top = self.routes.floor[-1] + BOX_HEIGHT + 0.9
        if any(stroke.slots[0].level == stroke.slots[-1].level for stroke in self.routes.layout.strokes):
            top += 0.4
        bottom = -0.85
        figure = Figure(figsize=(right - left, top - bottom), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.axis("off")
        for node in self.graph.nodes:
            self._draw_node(axes, node)
        self._draw_strokes(axes)
        for node, loops in self.loops.items():
            for index, edge in enumerate(loops):
                self._draw_loop(axes, node, edge, index)
        if self.labelled:
            self._draw_labels(axes)
        axes.text(left + MARGIN, top - 0.32, name, size=13, weight="bold", color=INK, va="center")
        axes.text(left + MARGIN, top - 0.56, rule, size=8.5, color=FADED, va="center")
        self._draw_legend(axes, left + MARGIN, bottom + 0.46)
        axes.text(left + MARGIN, bottom + 0.22, letters, size=8, color=FADED, va="center")
        return figure

    # ---- measures ------------------------------------------------------------------------------

    def _label(self, edge: Edge) -> str:
        if self.network is None or self.gains is None:
            return f"delay {edge.delay}"
        return f"{gain_text(self.network, edge, self.gains)}\ndelay {edge.delay}"

    def _letters(self) -> str:
        letters = []
        if self.network is not None:
            energy = self.network.spec.dynamics.rule == "energy"
            letters.append("π precision" if energy else "β feedforward, λ feedback, α error")
        return "; ".join([*letters, "start ← learned first guess"] if self.graph.starts else letters)

    def _box_widths(self) -> dict[str, float]:
        widths = {}
        for name, node in self.graph.nodes.items():
            texts = (text_width(name, 11, bold=True), text_width(self._second_line(name), 8))
            widths[name] = max(*texts, text_width(figure_text(node.module or ""), 7), 1.05) + 0.3
        rank = levels(self.graph)
        if len(set(rank.values())) == len(rank):  # a column: equal boxes, with room for the labels between
            between: dict[int, list[float]] = defaultdict(list)
            for edge in self.graph.edges.values():
                if any(abs(rank[source] - rank[edge.target]) == 1 for source in edge.sources):
                    below = min(rank[s] for s in edge.sources if abs(rank[s] - rank[edge.target]) == 1)
                    between[min(below, rank[edge.target])].append(self.label_width[edge.name])
            room = max((len(row) * (max(row) + 0.04) for row in between.values()), default=0.0)
            return dict.fromkeys(widths, max(*widths.values(), min(room, WIDEST)))
        return widths

    def _second_line(self, name: str) -> str:
        parts = (
            shape_text(self.graph.nodes[name].shape),
            rate_text(self.network, name) if self.network else "",
            start_text(self.graph, name),
        )
        return "   ".join(part for part in parts if part)

    def _half_width(self, name: str) -> float:
        """Half the width that a node takes, self edges and their labels included."""
        labels = [self.label_width[edge.name] for edge in self.loops.get(name, ())]
        return self.box_width[name] / 2 + (LOOP + max(labels) + 0.2 if labels else 0.0)

    # ---- nodes ---------------------------------------------------------------------------------

    def _draw_node(self, axes: Axes, name: str) -> None:
        slot = self.routes.layout.node[name]
        node = self.graph.nodes[name]
        width, x, y = self.box_width[name], self.routes.layout.x[slot], self.routes.floor[slot.level]
        colour = BOX_OF_IMAGE if name == self.graph.receiver else BOX if node.module else BOX_FREE
        box = FancyBboxPatch(
            (x - width / 2, y),
            width,
            BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.09",
            facecolor=colour,
            edgecolor=INK,
            linewidth=1.1,
            zorder=3,
        )
        axes.add_patch(box)
        lines = [(name, 11, "bold", INK), (self._second_line(name), 8, "normal", INK)]
        if node.module:
            lines.append((figure_text(node.module), 7, "normal", FADED))
        heights = {2: (0.4, 0.17), 3: (0.47, 0.285, 0.125)}[len(lines)]
        for (text, size, weight, ink), height in zip(lines, heights, strict=True):
            axes.text(
                x, y + height, text, size=size, weight=weight, color=ink, ha="center", va="center", zorder=4
            )
        self.taken.append(Box(x - width / 2, y, x + width / 2, y + BOX_HEIGHT))

    # ---- strokes -------------------------------------------------------------------------------

    def _draw_strokes(self, axes: Axes) -> None:
        ports = self.routes.ports
        joints: dict[Joint, list[int]] = defaultdict(list)
        for index in range(len(self.routes.layout.strokes)):
            joints[self.routes.joint(index)].append(index)
        for joint, members in joints.items():
            edge = self.routes.layout.strokes[members[0]].edge
            end = ports[joint]
            stop = end
            if self.routes.joins(joint):
                stop = (end[0], end[1] + (JUNCTION if joint.side == "top" else -JUNCTION))
                self._draw_line(axes, Path([stop, end]), edge.kind, arrow=True)
                self._draw_joint(axes, stop, edge)
            for index in members:
                stroke = self.routes.layout.strokes[index]
                path = self.routes.path(index, ports[index], stop)
                self.paths[stroke.edge.name, stroke.source] = path
                self._draw_line(axes, path, edge.kind, arrow=stop is end)
            self.taken.append(Box(end[0] - 0.07, end[1] - 0.1, end[0] + 0.07, end[1] + 0.1))

    def _draw_line(self, axes: Axes, path: Path, kind: str, arrow: bool) -> None:
        line = FancyArrowPatch(
            path=path,
            arrowstyle="-|>,head_length=4.2,head_width=2.1" if arrow else "-",
            linestyle=DASHES[kind],
            linewidth=1.35,
            color=COLOURS[kind],
            shrinkA=0,
            shrinkB=0,
            joinstyle="miter",
            capstyle="butt",
            zorder=2,
        )
        axes.add_patch(line)

    def _draw_joint(self, axes: Axes, place: Point, edge: Edge) -> None:
        colour = COLOURS[edge.kind]
        if not self.routes.is_bundle(edge):
            axes.add_patch(Circle(place, 0.035, color=colour, zorder=3))
            self.taken.append(Box(place[0] - 0.06, place[1] - 0.06, place[0] + 0.06, place[1] + 0.06))
            return
        axes.add_patch(Circle(place, 0.095, facecolor="white", edgecolor=colour, linewidth=1.2, zorder=4))
        axes.text(*place, "Σ", size=7.5, color=colour, ha="center", va="center_baseline", zorder=5)
        self.taken.append(Box(place[0] - 0.1, place[1] - 0.1, place[0] + 0.1, place[1] + 0.1))

    def _draw_loop(self, axes: Axes, name: str, edge: Edge, index: int) -> None:
        """A self edge: a loop at the box's right side, the next one at the left side."""
        slot = self.routes.layout.node[name]
        side = 1 if index % 2 == 0 else -1
        x = self.routes.layout.x[slot] + side * self.box_width[name] / 2
        middle = self.routes.floor[slot.level] + BOX_HEIGHT / 2 + 0.08 * (index // 2)
        out = LOOP + 0.12 * (index // 2)
        begin, end = (x, middle + 0.17), (x, middle - 0.17)
        over = [(x + side * out * 1.3, middle + 0.3), (x + side * out * 1.3, middle - 0.3)]
        path = Path([begin, *over, end], [Path.MOVETO, *[Path.CURVE4] * 3])
        self._draw_line(axes, path, edge.kind, arrow=True)
        text = self.labels[edge.name]
        if self.routes.is_bundle(edge):
            text = f"Σ  {text}"
        if self.labelled:
            place = x + side * (out + 0.05)
            axes.text(
                place,
                middle,
                text,
                size=7.5,
                color=COLOURS[edge.kind],
                ha="left" if side > 0 else "right",
                va="center",
                linespacing=1.1,
            )
            width = text_width(text, 7.5)
            near, far = sorted((place, place + side * width))
            self.taken.append(Box(near, middle - 0.15, far, middle + 0.15))

    # ---- labels --------------------------------------------------------------------------------

    def _draw_labels(self, axes: Axes) -> None:
        """Put each label on its own line, where it hides least."""
        points = {key: sampled(path) for key, path in self.paths.items()}
        for edge in self.graph.edges.values():
            own = {key: line for key, line in points.items() if key[0] == edge.name}
            if not own:
                continue
            others = [line for key, line in points.items() if key[0] != edge.name]
            text = self.labels[edge.name]
            target = self.routes.layout.node[edge.target].level
            lines = [
                (line, 0.0 if abs(self.routes.layout.node[source].level - target) == 1 else 1.5)
                for (_, source), line in own.items()
            ]
            place, box = best_place(text_width(text, 7.5) + 0.06, 0.27, lines, others, self.taken)
            self.taken.append(box)
            axes.text(
                *place,
                text,
                size=7.5,
                color=COLOURS[edge.kind],
                ha="center",
                va="center",
                linespacing=1.1,
                zorder=6,
                bbox={"boxstyle": "round,pad=0.16", "facecolor": "white", "edgecolor": "none", "alpha": 0.88},
            )

    def _legend(self) -> list[tuple[str, str]]:
        kinds = {edge.kind for edge in self.graph.edges.values()}
        entries: list[tuple[str, str]] = [
            (kind, kind) for kind in ("feedforward", "feedback") if kind in kinds
        ]
        if any(self.routes.is_bundle(edge) for edge in self.graph.edges.values()):
            entries.append(("bundle", "bundle: one summed prediction"))
        return entries

    def _legend_width(self) -> float:
        return sum(0.8 + text_width(text, 8) for _, text in self._legend()) - 0.3

    def _draw_legend(self, axes: Axes, x: float, y: float) -> None:
        for what, text in self._legend():
            if what == "bundle":
                axes.add_patch(Circle((x + 0.3, y), 0.095, facecolor="white", edgecolor=INK, linewidth=1.1))
                axes.text(x + 0.3, y, "Σ", size=7.5, color=INK, ha="center", va="center_baseline")
            else:
                style: dict[str, Any] = {"color": COLOURS[what], "linestyle": DASHES[what], "linewidth": 1.35}
                axes.add_line(Line2D([x, x + 0.42], [y, y], **style))
            axes.text(x + 0.5, y, text, size=8, color=INK, va="center")
            x += 0.8 + text_width(text, 8)
