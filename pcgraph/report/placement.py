"""Where the nodes and edges of a graph go in its drawing: levels from the image upwards.

After Sugiyama, Tagawa & Toda (1981): nodes into levels, an edge over several levels through a slot in
each of them, an order within each level that crosses few edges, then coordinates. Where each level has
one node the drawing is a column instead, and edges over several levels run in lanes beside it:
feedforward on the left, feedback on the right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

from pcgraph.graph import Edge, PCGraph

SLOT = 0.12
"""Width that an edge takes where it passes a level, in inches."""
GAP = 0.24
"""Space between two things in a level, in inches."""
ROUNDS = 12
UPRIGHT = 0.9
"""How far a node follows its neighbours to the side; less than 1, so that the drawing does not lean."""


@dataclass(frozen=True)
class Slot:
    """A place in a level: a node's box, or where a stroke passes."""

    level: int
    node: str = ""
    stroke: int = -1


@dataclass
class Stroke:
    """A line from one source of an edge to its target.

    Attributes:
        edge: The edge.
        source: One of its sources.
        slots: The slots that it leads through, from the source's to the target's.
    """

    edge: Edge
    source: str
    slots: list[Slot] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Attributes:
        levels: The slots of each level from the left; the lowest level first.
        strokes: The lines, self edges left out.
        x: The middle of each slot, in inches.
        node: The slot of each node.
        lanes: In a column: the lane of each stroke that passes a node (by its place in ``strokes``),
            the innermost 0. None where some level has several nodes.
    """

    levels: list[list[Slot]]
    strokes: list[Stroke]
    x: dict[Slot, float]
    node: dict[str, Slot]
    lanes: dict[int, int] | None = None


def lay_out(graph: PCGraph, widths: Mapping[str, float], passing: Mapping[str, float]) -> Layout:
    """Find a place for everything.

    Args:
        graph: The graph.
        widths: Width of each node's box in inches, self edges included.
        passing: Width of each edge's label in inches.
    """
    rank = levels(graph)
    node = {name: Slot(rank[name], node=name) for name in graph.nodes}
    strokes: list[Stroke] = []
    for edge in graph.edges.values():
        for source in edge.sources:
            if source != edge.target:
                stroke = Stroke(edge, source)
                passed = [
                    Slot(level, stroke=len(strokes)) for level in _between(rank[source], rank[edge.target])
                ]
                stroke.slots = [node[source], *passed, node[edge.target]]
                strokes.append(stroke)
    rows: list[list[Slot]] = [[] for _ in range(max(rank.values()) + 1)]
    for slot in node.values():
        rows[slot.level].append(slot)
    if all(len(row) == 1 for row in rows):
        return Layout(rows, strokes, dict.fromkeys(node.values(), 0.0), node, _lanes(strokes))
    for stroke in sorted(strokes, key=lambda stroke: len(stroke.slots)):
        # Feedforward strokes pass to the left of the nodes, feedback to the right, long ones outside.
        for slot in stroke.slots[1:-1]:
            row = rows[slot.level]
            row.insert(0 if stroke.edge.kind == "feedforward" else len(row), slot)
    neighbours: dict[Slot, list[Slot]] = defaultdict(list)
    for stroke in strokes:
        for one, other in pairwise(stroke.slots):
            if one.level != other.level:
                neighbours[one].append(other)
                neighbours[other].append(one)
    rows = _ordered(rows, neighbours)
    width = {slot: widths[slot.node] if slot.node else 0.0 for row in rows for slot in row}
    for stroke in strokes:
        passed = stroke.slots[1:-1]
        for slot in passed:
            width[slot] = SLOT
        if passed:
            width[passed[len(passed) // 2]] = max(SLOT, passing[stroke.edge.name])
    return Layout(rows, strokes, _coordinates(rows, neighbours, width), node)


def _between(low: int, high: int) -> range:
    return range(low + 1, high) if low < high else range(low - 1, high, -1)


def _lanes(strokes: Sequence[Stroke]) -> dict[int, int]:
    """A lane for each stroke that passes a node: short ones inside, and none over another."""
    lanes: dict[int, int] = {}
    passing = [index for index, stroke in enumerate(strokes) if len(stroke.slots) > 2]
    for index in sorted(passing, key=lambda index: len(strokes[index].slots)):
        stroke = strokes[index]
        low, high = sorted((stroke.slots[0].level, stroke.slots[-1].level))
        busy = set()
        for other, lane in lanes.items():
            beside = strokes[other]
            bottom, top = sorted((beside.slots[0].level, beside.slots[-1].level))
            if beside.edge.kind == stroke.edge.kind and bottom < high and low < top:
                busy.add(lane)
        lanes[index] = min(set(range(len(lanes) + 1)) - busy)
    return lanes


def levels(graph: PCGraph) -> dict[str, int]:
    """The level of each node: the longest way from the bottom along feedforward edges.

    Of a cycle the arc that leads back to where the walk came from does not count. A node that no
    feedforward edge touches stands above what it predicts.
    """
    arcs = nx.DiGraph()
    arcs.add_nodes_from(graph.nodes)
    edges = [edge for edge in graph.edges.values() if edge.kind == "feedforward"]
    arcs.add_edges_from((source, e.target) for e in edges for source in e.sources if source != e.target)
    loose = {name for name in graph.nodes if not arcs.degree(name) and name != graph.receiver}
    for edge in graph.edges.values():
        if edge.kind == "feedback":
            arcs.add_edges_from((edge.target, s) for s in edge.sources if s in loose and s != edge.target)
    arcs.remove_edges_from(_back_arcs(arcs, graph.receiver))
    rank: dict[str, int] = {}
    for name in nx.topological_sort(arcs):
        rank[name] = max((rank[below] + 1 for below in arcs.predecessors(name)), default=0)
    for name in reversed(list(nx.topological_sort(arcs))):  # sources other than the image: as high as can be
        if name != graph.receiver and not arcs.in_degree(name) and arcs.out_degree(name):
            rank[name] = min(rank[above] for above in arcs.successors(name)) - 1
    return rank


def _back_arcs(arcs: nx.DiGraph, start: str) -> list[tuple[str, str]]:
    """Arcs that a depth-first walk from ``start`` (then from the others) finds to lead back."""
    found: list[tuple[str, str]] = []
    state: dict[str, int] = {}
    for root in [start, *arcs.nodes]:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(list(arcs.successors(root))))]
        while stack:
            name, following = stack[-1]
            after = next(following, None)
            if after is None:
                state[name] = 2
                stack.pop()
            elif after not in state:
                state[after] = 1
                stack.append((after, iter(list(arcs.successors(after)))))
            elif state[after] == 1:
                found.append((name, after))
    return found


def _ordered(rows: list[list[Slot]], neighbours: Mapping[Slot, Sequence[Slot]]) -> list[list[Slot]]:
    """The rows ordered so that few strokes cross: sweeps by the mean of the neighbours, the best kept."""
    best, fewest = rows, _crossings(rows, neighbours)
    current = [list(row) for row in rows]
    for turn in range(ROUNDS):
        upwards = turn % 2 == 0
        order = range(1, len(current)) if upwards else range(len(current) - 2, -1, -1)
        for level in order:
            place = {slot: index - (len(row) - 1) / 2 for row in current for index, slot in enumerate(row)}

            def mean(
                slot: Slot, level: int = level, place: dict[Slot, float] = place, upwards: bool = upwards
            ) -> float:
                fixed = [
                    place[other] for other in neighbours.get(slot, ()) if (other.level < level) == upwards
                ]
                return sum(fixed) / len(fixed) if fixed else place[slot]

            current[level] = sorted(current[level], key=mean)
        crossings = _crossings(current, neighbours)
        if crossings < fewest:
            best, fewest = [list(row) for row in current], crossings
    return best


def _crossings(rows: list[list[Slot]], neighbours: Mapping[Slot, Sequence[Slot]]) -> int:
    total = 0
    place = {slot: index for row in rows for index, slot in enumerate(row)}
    for row in rows:
        lines = [
            (place[slot], place[other])
            for slot in row
            for other in neighbours.get(slot, ())
            if other.level == slot.level + 1
        ]
        for index, (low, high) in enumerate(lines):
            total += sum((low - a) * (high - b) < 0 for a, b in lines[index + 1 :])
    return total


def _coordinates(
    rows: list[list[Slot]], neighbours: Mapping[Slot, Sequence[Slot]], width: Mapping[Slot, float]
) -> dict[Slot, float]:
    """The middle of each slot: near its neighbours, and none over another."""
    x: dict[Slot, float] = {}
    for row in rows:
        nodes = [slot for slot in row if slot.node]
        middle = row.index(nodes[len(nodes) // 2]) if len(nodes) % 2 else None
        left = _starts(row, width)
        shift = left[middle] if middle is not None else (left[0] + left[-1]) / 2
        x.update((slot, left[index] - shift) for index, slot in enumerate(row))
    for turn in range(2 * ROUNDS):
        for row in rows if turn % 2 == 0 else reversed(rows):
            wanted, weights = [], []
            for slot in row:
                near = list(neighbours.get(slot, ()))
                if slot.node:  # nodes line up with nodes; strokes that pass make way
                    near = [other for other in near if other.node] or near
                mean = sum(x[other] for other in near) / len(near) if near else x[slot]
                wanted.append(UPRIGHT * mean if slot.node else mean)
                weights.append(1e4 if slot.node else 1.0)
            left = _starts(row, width)
            moved = _monotone([w - s for w, s in zip(wanted, left, strict=True)], weights)
            x.update((slot, m + s) for slot, m, s in zip(row, moved, left, strict=True))
    return x


def _starts(row: Sequence[Slot], width: Mapping[Slot, float]) -> list[float]:
    """The middles of the slots when they are packed from 0 on."""
    starts = [0.0]
    for one, other in pairwise(row):
        starts.append(starts[-1] + (width[one] + width[other]) / 2 + GAP)
    return starts


def _monotone(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing numbers nearest to ``values`` in weighted squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, w1, n1), (other, w2, n2) = pools[-2:]
            pools[-2:] = [((one * w1 + other * w2) / (w1 + w2), w1 + w2, n1 + n2)]
    return [value for value, _, count in pools for _ in range(count)]
