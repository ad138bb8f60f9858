"""Feedback patterns to edges, given which node feeds which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.spec.edge import Edge
from pcgraph.spec.feedback import Pattern, Skip
from pcgraph.spec.schema import INPUT, Spec

Reads = Mapping[str, Sequence[str]]


def input_node(spec: Spec) -> str:
    """The node that receives the images: ``input``, or the first node where there is no backbone."""
    return INPUT if spec.backbone is not None else next(iter(spec.nodes))


def wire(spec: Spec, reads: Reads) -> list[tuple[Edge, FieldPath]]:
    """Every feedback edge of a spec: its patterns spelt out, and its explicit edges.

    A pattern makes no edge that the spec has explicitly (under ``edges`` or ``feedback``), none that
    an earlier pattern made, and none from a node to itself.

    Args:
        spec: A valid spec.
        reads: For every node the nodes that feed it directly, `input` included; the feedforward
            structure that the patterns follow.

    Returns:
        The edges with the field that each comes from, sorted by source and target in the order in
        which the spec declares its nodes, the input first.

    Raises:
        SpecError: A pattern fits nowhere, such as ``{skip: 9}`` in a network of four nodes.
    """
    ranks = {name: rank for rank, name in enumerate(dict.fromkeys((input_node(spec), *spec.nodes)))}
    explicit = {(edge.sources, edge.target) for edge in spec.edges}
    wired: list[tuple[Edge, FieldPath]] = []
    for index, item in enumerate(spec.feedback):
        if isinstance(item, Edge):
            explicit.add((item.sources, item.target))
            wired.append((item, ("feedback", index)))
    for index, item in enumerate(spec.feedback):
        if isinstance(item, Edge) or item == "none":
            continue
        pairs = list(_pairs(item, spec, reads))
        if not pairs:
            shown = f"{{skip: {item.skip}}}" if isinstance(item, Skip) else f"'{item}'"
            message = f"the pattern {shown} finds no two nodes to connect"
            fault = Fault(message, ("feedback", index), _distances(item, spec, reads))
            raise SpecError(spec.located([fault]))
        for source, target in pairs:
            if ((source,), target) not in explicit:
                explicit.add(((source,), target))
                wired.append((Edge(source=source, target=target), ("feedback", index)))
    return sorted(wired, key=lambda pair: ([ranks[name] for name in pair[0].sources], ranks[pair[0].target]))


def with_gains(spec: Spec, numbers: Mapping[str, Mapping[str, Any]]) -> Spec:
    """A spec with other numbers as ``gain`` and ``error`` of edges that it writes out, by their names."""

    def changed(item: Any) -> Any:
        if not isinstance(item, Edge):
            return item
        return item.model_copy(update=dict(numbers.get(f"{'+'.join(item.sources)}->{item.target}", {})))

    edges, feedback = map(changed, spec.edges), map(changed, spec.feedback)
    return spec.model_copy(update={"edges": list(edges), "feedback": list(feedback)})


def _pairs(pattern: Pattern, spec: Spec, reads: Reads) -> Iterable[tuple[str, str]]:
    bottom = input_node(spec)
    for node in spec.nodes:
        if pattern == "to_input":
            below: Iterable[str] = [bottom]
        elif isinstance(pattern, Skip):
            below = [name for name, distance in distances(node, reads).items() if distance == pattern.skip]
        elif pattern == "chain":
            below = reads.get(node, ())
        else:
            below = distances(node, reads)
        yield from ((node, name) for name in below if name != node)


def distances(node: str, reads: Reads) -> dict[str, int]:
    """How many feedforward edges, at the fewest, lead from each node upstream to ``node`` (itself: 0)."""
    found = {node: 0}
    frontier = [node]
    distance = 0
    while frontier:
        distance += 1
        below = dict.fromkeys(name for above in frontier for name in reads.get(above, ()))
        frontier = [name for name in below if name not in found]
        found.update(dict.fromkeys(frontier, distance))
    return found


def _distances(pattern: Pattern, spec: Spec, reads: Reads) -> str:
    if not isinstance(pattern, Skip):
        return "No node is fed by another one."
    longest = max(distance for node in spec.nodes for distance in distances(node, reads).values())
    return f"The longest distance between two nodes is {longest}."
