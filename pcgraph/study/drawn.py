"""Wirings that are drawn: the pairs of nodes that an edge may join, and edges whose ends are exchanged."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import networkx as nx
import numpy as np

from pcgraph.graph import PCGraph

Pair = tuple[str, str]
SWAPS = 20
"""Attempts to exchange the ends of two edges, times the number of edges."""


def below(graph: PCGraph) -> list[Pair]:
    """All pairs of a node and one that it is computed from."""
    view = nx.DiGraph(graph.to_networkx("feedforward"))
    names = list(graph.nodes)
    return [(a, b) for a in names for b in names if a != b and b in nx.ancestors(view, a)]


def shuffled(given: Sequence[Pair], allowed: Collection[Pair], seeds: Sequence[int]) -> list[Pair] | None:
    """Edges, as (source, target), with their ends exchanged at random; None if no two can be."""
    pairs, rng, moved = list(given), np.random.default_rng(list(seeds)), False
    for _ in range(SWAPS * len(pairs)):
        one, two = rng.integers(len(pairs), size=2).tolist()
        (a, b), (c, d) = pairs[one], pairs[two]
        if one != two and {(a, d), (c, b)} <= set(allowed) - set(pairs) and (a, d) != (c, b):
            pairs[one], pairs[two], moved = (a, d), (c, b), True
    return pairs if moved else None
