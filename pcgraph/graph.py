"""The graph of states tied by predictions: nodes, edges, and the checks that need no tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Literal

import networkx as nx

from pcgraph.display.text import format_shape, listing
from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.spec.edge import EnergyName
from pcgraph.spec.layout import Layout
from pcgraph.spec.mask import Mask
from pcgraph.spec.values import Predictor

INPUT = "input"
Kind = Literal["feedforward", "feedback"]


@dataclass(frozen=True)
class Node:
    """A state.

    Attributes:
        name: A Python identifier.
        shape: Shape of one state, without the batch.
        module: Qualified name of the place in the backbone; None for a free-standing node.
        layout: What its dimensions are; None where nothing says it, or nobody has asked.
    """

    name: str
    shape: tuple[int, ...]
    module: str | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class Edge:
    """A prediction of ``target`` from ``sources``.

    Attributes:
        name: ``source->target``; several sources are joined with ``+``.
        kind: Which of the target's gains draws it to the prediction.
        predictor: How to build the edge's function; None when the backbone computes it.
        delay: How many steps ago the sources are read; 0 reads states updated in the same step.
        bundle: The error term that the edge belongs to; the edge's own name when it is alone.
        gain: The edge's own gain a_e; None shares the target's.
        error: The edge's own gain b_e, or ``auto``; None takes the sources'.
        energy: What an error costs.
        precision: Weight of the error: a number, one for each entry of the target's first dimension, or
            ``learned``.
        reach: C of gradient ``normalized``; None counts it.
        mask: Which weights of the predictor there are; None is all of them.
        path: The field of the spec that the edge comes from.
    """

    name: str
    sources: tuple[str, ...]
    target: str
    kind: Kind
    predictor: Predictor | None
    delay: int
    bundle: str
    gain: float | None = None
    error: float | Literal["auto"] | None = None
    energy: EnergyName = "gaussian"
    precision: float | tuple[float, ...] | Literal["learned"] = 1.0
    reach: float | None = None
    mask: Mask | None = None
    path: FieldPath = ()

    @property
    def is_foreign(self) -> bool:
        """Whether the predictor is imported code, which may write into what it is given."""
        return isinstance(self.predictor, str) and self.predictor != "auto"


def edge_name(sources: Iterable[str], target: str) -> str:
    """The name of an edge: ``e2->e1``, or ``e1+e2->e3`` when several nodes predict together."""
    return f"{'+'.join(sources)}->{target}"


class PCGraph:
    """Nodes and edges of one network, checked.

    Attributes:
        nodes: Nodes by name, in the order of the spec; the image of a backbone comes first.
        edges: Edges by name: the backbone's, then the other feedforward ones, then feedback.
        terms: The error terms: edges by bundle, alone or summed into one prediction.
        starts: Learned first guesses by their targets. They are no edges of the graph: nothing but the state
            at step 0 depends on them.

    Raises:
        SpecError: An edge names no node or stands twice, edges of a bundle do not fit together,
            delay-0 edges form a cycle, or a node is tied to nothing.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[Edge], starts: Iterable[Edge] = ()) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.starts = {start.target: start for start in starts}
        self.edges: dict[str, Edge] = {}
        terms: dict[str, list[Edge]] = {}
        faults = []
        for edge in edges:
            if edge.name in self.edges:
                first = self.edges[edge.name]
                origin = "the backbone already makes" if first.predictor is None else "there is already"
                faults.append(Fault(f"{origin} an edge '{edge.name}'", edge.path, "Take one of them out."))
                continue
            self.edges[edge.name] = edge
            terms.setdefault(edge.bundle, []).append(edge)
        self.terms = {name: tuple(members) for name, members in terms.items()}
        for check in (self._precision_faults, self._bundle_faults, self._cycle_faults, self._apart_faults):
            faults += check()
        if faults:
            raise SpecError(faults)

    def __repr__(self) -> str:
        return f"PCGraph of {len(self.nodes)} nodes and {len(self.edges)} edges\n{self.summary()}"

    def _repr_html_(self) -> str | None:
        """The wiring, drawn, in a notebook; None without matplotlib, where the text is shown."""
        from pcgraph import wiring_html

        return wiring_html(self)

    def summary(self) -> str:
        """Nodes and edges in a few lines; of many, the first."""
        nodes = [f"{node.name} {format_shape(node.shape)}".rstrip() for node in self.nodes.values()]
        lines = [f"  nodes: {listing(nodes)}"]
        for kind in ("feedforward", "feedback"):
            names = [name for name, edge in self.edges.items() if edge.kind == kind]
            lines += [f"  {kind}: {listing(names)}"] if names else []
        if self.starts:
            lines.append(f"  starts: {listing(start.name for start in self.starts.values())}")
        return "\n".join(lines)

    @property
    def receiver(self) -> str:
        """The node that images are given to: ``input``, or the first node of the spec."""
        return next(iter(self.nodes))

    @cached_property
    def memory(self) -> dict[str, int]:
        """For nodes that an edge reads with a delay of 2 or more: the longest of these delays."""
        longest: dict[str, int] = {}
        for edge in self.edges.values():
            for source in edge.sources if edge.delay > 1 else ():
                longest[source] = max(longest.get(source, 0), edge.delay)
        return longest

    def terms_into(self, node: str, kind: Kind | None = None) -> list[str]:
        """Names of the error terms whose target is ``node``."""
        own = self._terms_of.get(node, ())
        return [name for name in own if kind in (None, self.terms[name][0].kind)]

    @cached_property
    def _terms_of(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, (edge, *_) in self.terms.items():
            found.setdefault(edge.target, []).append(name)
        return found

    def to_networkx(self, kind: Kind | None = None, delay: int | None = None) -> nx.MultiDiGraph:
        """The graph as networkx sees it; an edge with several sources becomes one arc a source.

        Nodes carry ``shape`` and ``module``; arcs have the edge's name as key and carry ``kind``,
        ``delay`` and ``bundle``. ``kind`` and ``delay`` keep only the edges that have them.
        """
        view = nx.MultiDiGraph()
        for node in self.nodes.values():
            view.add_node(node.name, shape=node.shape, module=node.module)
        for edge in self.edges.values():
            if kind in (None, edge.kind) and delay in (None, edge.delay):
                for source in edge.sources:
                    view.add_edge(
                        source, edge.target, edge.name, kind=edge.kind, delay=edge.delay, bundle=edge.bundle
                    )
        return view

    def sweep_order(self) -> list[str]:
        """All nodes, each after the nodes that its delay-0 edges read."""
        position = {name: index for index, name in enumerate(self.nodes)}
        return list(nx.lexicographical_topological_sort(self.to_networkx(delay=0), key=position.__getitem__))

    def blocks(self, order: str | Sequence[Sequence[str]]) -> list[frozenset[str] | None]:
        """The blocks of nodes that move one after the other in each step.

        Args:
            order: Of the schedule; nodes that its blocks leave out are the last block.

        Returns:
            The nodes of each block; of ``synchronous`` and ``sweep`` one block of all, None.
        """
        if isinstance(order, str):
            return [None]
        blocks = [frozenset(block) for block in order]
        rest = frozenset(self.nodes).difference(*blocks)
        return [*blocks, rest] if rest else [*blocks]

    def serving(self, given: Collection[str]) -> dict[str, Edge]:
        """The starts, by target, of which what is given reaches every source.

        It reaches a node along its start, or where it has none along a feedforward edge. So with the upper
        end of a generative network given in place of its image, no guess is made from an image that is not
        there, and the nodes start feedforward.
        """
        known = set(given)
        if any(edge.predictor is None for edge in self.edges.values()):
            known |= {node.name for node in self.nodes.values() if node.module is not None}
        reads: dict[str, set[str]] = {name: set() for name in self.nodes}
        for edge in self.edges.values():
            if edge.kind == "feedforward" and edge.target not in self.starts:
                reads[edge.target].update(edge.sources)
        grown = True
        while grown:
            found = {name for name, sources in reads.items() if sources & known}
            found |= {name for name, start in self.starts.items() if known.issuperset(start.sources)}
            grown = not found <= known
            known |= found
        return {name: start for name, start in self.starts.items() if known.issuperset(start.sources)}

    @cached_property
    def feedforward_order(self) -> list[tuple[str, frozenset[str]]]:
        """`start_order` where nothing but the feedforward edges counts."""
        return self.start_order()

    def start_order(
        self, starts: Mapping[str, Edge] | None = None, known: Collection[str] = ()
    ) -> list[tuple[str, frozenset[str]]]:
        """All nodes in feedforward order, each with the nodes of the cycle it lies in (if any).

        Within a cycle no node comes before another: only predictions from outside it count. The image
        of a backbone and the nodes in it start as in the plain network; no other edge into them counts.

        Args:
            starts: By their targets, starts that take the place of the feedforward edges. Of a cycle their
                targets come last, each after the sources of its start.
            known: Nodes whose start is known as a whole: no edge into them counts.
        """
        starts = starts or {}
        driven = {edge.target for edge in self.edges.values() if edge.predictor is None}
        plain = driven.union([self.receiver] if driven else [], starts, known)
        view = nx.DiGraph()
        view.add_nodes_from(self.nodes)
        for edge in self.edges.values():
            if edge.kind == "feedforward" and (edge.predictor is None or edge.target not in plain):
                view.add_edges_from((source, edge.target) for source in edge.sources)
        for edge in starts.values():
            view.add_edges_from((source, edge.target) for source in edge.sources)
        cycles = nx.condensation(view)
        position = {name: index for index, name in enumerate(self.nodes)}
        if starts:
            sorter = TopologicalSorter({name: edge.sources for name, edge in starts.items()})
            last = [name for name in sorter.static_order() if name in starts]
            position |= {name: len(position) + index for index, name in enumerate(last)}
        order = []
        for component in nx.topological_sort(cycles):
            members = frozenset(cycles.nodes[component]["members"])
            looped = members if len(members) > 1 or any(view.has_edge(n, n) for n in members) else frozenset()
            order += [(name, looped) for name in sorted(members, key=position.__getitem__)]
        return order

    def _precision_faults(self) -> list[Fault]:
        """A list of precisions fits its target; shapes in a backbone are known only here."""
        return [
            Fault(
                f"{len(edge.precision)} precisions for '{edge.target}' of shape {first}",
                (*edge.path, "precision"),
                f"Give one number for each of the {first[0]} entries of its first dimension.",
            )
            for edge in self.edges.values()
            if isinstance(edge.precision, tuple)
            and len(edge.precision) != (first := self.nodes[edge.target].shape)[0]
        ]

    def _bundle_faults(self) -> list[Fault]:
        faults = []
        for name, (first, *others) in self.terms.items():
            for edge in others:
                for what in ("target", "kind", "energy", "precision", "gain"):
                    one, other = getattr(first, what), getattr(edge, what)
                    if one != other:
                        faults.append(
                            Fault(
                                f"edges '{first.name}' and '{edge.name}' of bundle '{name}' have one error, "
                                f"but {what} {one!r} and {other!r}",
                                edge.path,
                            )
                        )
                if (first.delay == 0) != (edge.delay == 0):
                    faults.append(
                        Fault(
                            f"edges '{first.name}' and '{edge.name}' of bundle '{name}' have delays "
                            f"{first.delay} and {edge.delay}; delay 0 cannot be mixed with others",
                            edge.path,
                        )
                    )
        return faults

    def _cycle_faults(self) -> list[Fault]:
        try:
            cycle = nx.find_cycle(self.to_networkx(delay=0))
        except nx.NetworkXNoCycle:
            return []
        around = " -> ".join([arc[0] for arc in cycle] + [cycle[0][0]])
        edge = self.edges[cycle[-1][2]]
        return [
            Fault(
                f"edges with delay 0 form the cycle {around}; no node of it can be updated first",
                edge.path,
                f"Give one of its edges a delay of 1, for example '{edge.name}'.",
            )
        ]

    def _apart_faults(self) -> list[Fault]:
        ties = nx.Graph((source, edge.target) for edge in self.edges.values() for source in edge.sources)
        ties.add_nodes_from(self.nodes)
        tied = nx.node_connected_component(ties, self.receiver)
        return [
            Fault(
                f"no chain of edges ties node '{name}' to '{self.receiver}'",
                ("nodes", name),
                "Add an edge from or to it, or take it out.",
            )
            for name in self.nodes
            if name not in tied
        ]
