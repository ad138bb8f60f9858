"""Where the strokes of a drawing run: their ends on the boxes, where they join, and their curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.path import Path

from pcgraph.graph import Edge, PCGraph
from pcgraph.report.placement import Slot, lay_out

# All lengths are in inches on paper.
BOX_HEIGHT = 0.62
CHANNEL = 0.86
"""Height between two levels."""
JUNCTION = 0.24
"""How far before a box strokes join."""
LANES = 7.5
"""Width that all lanes of one side may take."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Joint:
    """Where on a box the strokes of one error term arrive."""

    term: str
    target: Slot
    side: str


class Routes:
    """The geometry of one drawing.

    Args:
        graph: The graph.
        box_width: Width of each node's box.
        half_width: Half the width that each node takes, self edges and their labels included.
        label_width: Width of each edge's label.

    Attributes:
        layout: Where the nodes are.
        floor: The lower side of each level's boxes.
        ports: Where each stroke begins (by its place in the layout) and arrives (by its joint).
    """

    def __init__(
        self,
        graph: PCGraph,
        box_width: Mapping[str, float],
        half_width: Mapping[str, float],
        label_width: Mapping[str, float],
    ) -> None:
        self.graph = graph
        self.box_width = box_width
        self.half_width = half_width
        self.label_width = label_width
        self.layout = lay_out(graph, {name: 2 * half for name, half in half_width.items()}, label_width)
        self.floor = self._floors()
        self.ports = self._ports()

    def is_bundle(self, edge: Edge) -> bool:
        """Whether the edge is summed with others into one prediction."""
        return len(self.graph.terms[edge.bundle]) > 1

    def joint(self, index: int) -> Joint:
        """Where a stroke arrives. Strokes of one error term join, if they come from one side."""
        stroke = self.layout.strokes[index]
        target = stroke.slots[-1]
        side = "top" if stroke.slots[-2].level >= target.level else "bottom"
        joint = Joint(stroke.edge.bundle, target, side)
        if self._in_lane(index) and not self.joins(joint):
            return Joint(stroke.edge.bundle, target, "left" if stroke.edge.kind == "feedforward" else "right")
        return joint

    def joins(self, joint: Joint) -> bool:
        """Whether a dot or Σ stands before the box: several strokes arrive, or one of a bundle."""
        edges = self.graph.terms[joint.term]
        sources = [name for edge in edges for name in edge.sources if name != edge.target]
        return joint.side in ("top", "bottom") and (len(edges) > 1 or len(sources) > 1)

    def path(self, index: int, begin: Point, end: Point) -> Path:
        """Smooth curves from level to level, upright where they pass one."""
        stroke = self.layout.strokes[index]
        if self._in_lane(index):
            return _around(begin, end, self._lane_x(index))
        if stroke.slots[0].level == stroke.slots[-1].level:
            rise = 0.75 + 0.1 * abs(begin[0] - end[0])
            over = [(begin[0], begin[1] + rise), (end[0], end[1] + rise)]
            return Path([begin, *over, end], [Path.MOVETO, *[Path.CURVE4] * 3])
        up = stroke.slots[-1].level > stroke.slots[0].level
        stops: list[Point] = [begin]
        for slot in stroke.slots[1:-1]:
            low = self.floor[slot.level]
            high = low + BOX_HEIGHT
            stops += [(self.layout.x[slot], y) for y in ((low, high) if up else (high, low))]
        stops.append(end)
        points: list[Point] = [begin]
        codes: list[Any] = [Path.MOVETO]
        for place, (one, other) in enumerate(pairwise(stops)):
            if place % 2:
                points.append(other)
                codes.append(Path.LINETO)
            else:
                bend = 0.5 * (other[1] - one[1])
                points += [(one[0], one[1] + bend), (other[0], other[1] - bend), other]
                codes += [Path.CURVE4] * 3
        return Path(points, codes)

    def extent(self) -> Point:
        """Left and right end of the drawing."""
        left = min(self.layout.x[slot] - self.half_width[slot.node] for slot in self.layout.node.values())
        right = max(self.layout.x[slot] + self.half_width[slot.node] for slot in self.layout.node.values())
        for index, stroke in enumerate(self.layout.strokes):
            half = self.label_width[stroke.edge.name] / 2
            xs = [self.layout.x[slot] for slot in stroke.slots if slot in self.layout.x]
            if self.layout.lanes is not None and index in self.layout.lanes:
                xs = [self._lane_x(index)]
            left, right = min(left, min(xs) - half), max(right, max(xs) + half)
        return left, right

    def _in_lane(self, index: int) -> bool:
        return self.layout.lanes is not None and index in self.layout.lanes

    def _lane_x(self, index: int) -> float:
        """Where the lane of a stroke runs."""
        assert self.layout.lanes is not None
        kind = self.layout.strokes[index].edge.kind
        beside = [i for i in self.layout.lanes if self.layout.strokes[i].edge.kind == kind]
        count = 1 + max(self.layout.lanes[i] for i in beside)
        widest = max(self.label_width[self.layout.strokes[i].edge.name] for i in beside)
        apart = min(widest + 0.08, max(0.16, LANES / count))
        edge_of_nodes = max(self.half_width.values())
        x = edge_of_nodes + 0.12 + widest / 2 + apart * self.layout.lanes[index]
        return -x if kind == "feedforward" else x

    def _floors(self) -> list[float]:
        """The lower side of each level's boxes; a channel that many strokes cross is higher."""
        crossing = [0] * len(self.layout.levels)
        for stroke in self.layout.strokes if self.layout.lanes is None else ():
            for one, other in pairwise(stroke.slots):
                if abs(self.layout.x[one] - self.layout.x[other]) > 0.6 or one.level == other.level:
                    crossing[min(one.level, other.level)] += 1
        channel = CHANNEL if len(crossing) <= 10 else 0.72 * CHANNEL
        floors = [0.0]
        for count in crossing[:-1]:
            floors.append(floors[-1] + BOX_HEIGHT + channel + min(0.11 * count, 1.3))
        return floors

    def _ports(self) -> dict[int | Joint, Point]:
        """Where on a box each stroke begins (by its index) and arrives (by its joint)."""
        sides: dict[tuple[Slot, str], dict[int | Joint, list[tuple[float, ...]]]]
        sides = defaultdict(lambda: defaultdict(list))
        for index, stroke in enumerate(self.layout.strokes):
            source, joint = stroke.slots[0], self.joint(index)
            kind = 0.0 if stroke.edge.kind == "feedforward" else 1.0
            side = "top" if stroke.slots[1].level >= source.level else "bottom"
            if self._in_lane(index):
                assert self.layout.lanes is not None
                side = "left" if stroke.edge.kind == "feedforward" else "right"
                lane = float(self.layout.lanes[index])
                for place, other, key in (
                    (source, stroke.slots[-1], index),
                    (stroke.slots[-1], source, joint),
                ):
                    where = side if isinstance(key, int) else joint.side
                    rises = other.level > place.level
                    if where == side:  # strokes to above leave above those to below, inner lanes outermost
                        sides[place, where][key].append(
                            (-1.0 if rises else 1.0, lane if rises else -lane, 0.0)
                        )
                    else:
                        sides[place, where][key].append((-0.6 if side == "left" else 0.6, kind, 0.0))
            else:
                x = self.layout.x
                sides[source, side][index].append((x[stroke.slots[1]], kind, x[stroke.slots[-1]]))
                sides[stroke.slots[-1], joint.side][joint].append((x[stroke.slots[-2]], kind, x[source]))
        ports: dict[int | Joint, Point] = {}
        for (slot, side), entries in sides.items():
            keys = {
                entry: [sum(part) / len(found) for part in zip(*found, strict=True)]
                for entry, found in entries.items()
            }
            order = sorted(entries, key=lambda entry: ([round(part, 3) for part in keys[entry]], str(entry)))
            for rank, entry in enumerate(order):
                ports[entry] = self._on_side(slot, side, (rank + 0.5) / len(order))
        return ports

    def _on_side(self, slot: Slot, side: str, share: float) -> Point:
        """A point on the side of a box, from the left or from the top."""
        x, y, width = self.layout.x[slot], self.floor[slot.level], self.box_width[slot.node]
        if side in ("left", "right"):
            return x + (width / 2 if side == "right" else -width / 2), y + BOX_HEIGHT * (0.94 - 0.88 * share)
        return x + (share - 0.5) * (width - 0.16), y + (BOX_HEIGHT if side == "top" else 0.0)


def _around(begin: Point, end: Point, lane: float) -> Path:
    """Out to a lane beside the column, along it, and back, with rounded corners."""
    radius = min(0.28, abs(end[1] - begin[1]) / 2)
    up = 1 if end[1] > begin[1] else -1
    outwards = 1 if lane > begin[0] else -1
    near = lane - outwards * radius
    points = [
        begin,
        (near, begin[1]),
        (lane, begin[1]),
        (lane, begin[1] + up * radius),
        (lane, end[1] - up * radius),
        (lane, end[1]),
        (near, end[1]),
        end,
    ]
    codes: list[Any] = [
        Path.MOVETO,
        Path.LINETO,
        *[Path.CURVE3] * 2,
        Path.LINETO,
        *[Path.CURVE3] * 2,
        Path.LINETO,
    ]
    return Path(points, codes)
