"""What a step has to evaluate, once it is known which nodes never change.

A block is a function that is evaluated as one: a predictor, or several of the backbone's predictions
in one pass. A plan leaves out every block that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import networkx as nx
from torch import Tensor

from pcgraph.dynamics.gains import Gains, Scalar
from pcgraph.graph import Edge
from pcgraph.network import PCNetwork, read
from pcgraph.tracing.drive import Stage

Env = dict[str, Any]
SMALL = 2**16
"""Numbers an image: predictions that have fewer of them together are made at once, which takes less time."""


@dataclass(frozen=True)
class Block:
    """Predictions that are evaluated together, from sources read with the same delay.

    Attributes:
        edges: The predictions that it makes, in the order of its results.
        sources: The nodes that it reads.
        delay: How many steps ago it reads them.
        pulled: The sources that the errors of these predictions move.
        function: From the values of the sources and the run's constants, by name, to the predictions.
            A pass of the backbone leaves there what later passes of the same sweep reuse.
    """

    edges: tuple[Edge, ...]
    sources: tuple[str, ...]
    delay: int
    pulled: tuple[str, ...]
    function: Callable[[Env], tuple[Tensor, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the edges."""
        return tuple(edge.name for edge in self.edges)

    @property
    def in_backbone(self) -> bool:
        """Whether the backbone makes these predictions (and so reads the run's constants)."""
        return self.edges[0].predictor is None

    def reader(self, source: str) -> str:
        """Name of the first edge that reads ``source``."""
        return next(edge.name for edge in self.edges if source in edge.sources)


@dataclass(frozen=True)
class Group:
    """Blocks that have error terms in common, so that all must be known before one error is; or small ones.

    Attributes:
        blocks: The blocks, all of delays of 1 or more.
        terms: The error terms.
        draws: Those of them that draw a moving node, each with its gain a_e.
    """

    blocks: tuple[Block, ...]
    terms: tuple[str, ...]
    draws: Mapping[str, Scalar]


@dataclass(frozen=True)
class Visit:
    """One node's update.

    Attributes:
        node: The node.
        blocks: Delay-0 predictions of it, evaluated when its turn comes.
        draws: The error terms of these that draw it, each with its gain a_e.
    """

    node: str
    blocks: tuple[Block, ...]
    draws: tuple[tuple[str, Scalar], ...]


class Plan:
    """The blocks of a step.

    Args:
        network: The network.
        gains: The rule's gains; an edge whose gains are zero is not evaluated.
        fixed: Nodes that are clamped as a whole.
        watched: Error terms whose predictions are wanted even if no node moves by them.
        block: The nodes that are to move; None is all that are not fixed.

    Attributes:
        constants: Stage that computes, once a run, what the fixed nodes alone determine.
        once: Blocks that read fixed nodes only; evaluated once a run, whoever asks for them later.
        delayed: Blocks that read states from before the step.
        groups: The same, by what has to be known together.
        visits: The moving nodes in the order of the sweep.
        terms: The error terms that are evaluated, with their edges.
        energy: The energy of each of them.
    """

    def __init__(
        self,
        network: PCNetwork,
        gains: Gains,
        fixed: frozenset[str],
        watched: frozenset[str] = frozenset(),
        block: frozenset[str] | None = None,
    ) -> None:
        self.network = network
        self.gains = gains
        self.fixed = fixed
        self.watched = watched
        graph = network.graph
        self.moving = tuple(name for name in graph.nodes if name not in fixed and _in(name, block))
        self._moves = frozenset(self.moving)
        self.constants: Stage | None = network.drive.constants(fixed) if network.drive else None
        needed = watched | {edge.bundle for edge in graph.edges.values() if self._acts(edge)}
        wanted = [edge for edge in graph.edges.values() if edge.bundle in needed]
        resting = [e for e in graph.edges.values() if e.predictor is not None and fixed.issuperset(e.sources)]
        at_rest = {edge.name for edge in resting}
        others = [edge for edge in wanted if edge.name not in at_rest]
        self.once = self._blocks(resting)
        self.delayed = self._blocks(edge for edge in others if edge.delay)
        instant = [edge for edge in others if edge.delay == 0]
        self._watched_instant = tuple(edge for edge in instant if edge.bundle in watched)
        self._observed: dict[tuple[str, ...], tuple[Block, ...]] = {}
        self.terms = {name: members for name, members in graph.terms.items() if name in needed}
        self.energy = {name: network.energy(name) for name in self.terms}
        self.groups = tuple(self._groups())
        self.visits = tuple(self._visits([edge for edge in instant if edge.target in self._moves]))

    @cached_property
    def head(self) -> Stage:
        """Stage that computes the backbone's output from a finished state."""
        assert self.network.drive is not None
        return self.network.drive.stages([["output"]], self.fixed)[0]

    def observed(self, known: Collection[str] = ()) -> tuple[Block, ...]:
        """Blocks of the watched delay-0 predictions, to be evaluated on a finished state.

        Args:
            known: The edges whose predictions are there already.
        """
        edges = {edge.name: edge for edge in self._watched_instant if edge.name not in known}
        if tuple(edges) not in self._observed:
            self._observed[tuple(edges)] = self._blocks(edges.values())
        return self._observed[tuple(edges)]

    def pull_gain(self, owner: tuple[str, str]) -> Scalar:
        """``b_e * s_e`` of an edge and one of its sources."""
        return self.gains.source[owner] * self.gains.scale.get(owner[0], 1.0)

    def _acts(self, edge: Edge) -> bool:
        drawn = edge.target in self._moves and _nonzero(self.gains.target[edge.bundle])
        return drawn or bool(self._pulled([edge]))

    def _pulled(self, edges: Iterable[Edge]) -> tuple[str, ...]:
        pairs = [(edge.name, source) for edge in edges for source in edge.sources if source in self._moves]
        return tuple(dict.fromkeys(node for name, node in pairs if (name, node) in self.gains.source))

    def _blocks(self, edges: Iterable[Edge]) -> tuple[Block, ...]:
        """One block a predictor, and one for all the backbone's predictions of one delay."""
        blocks = []
        driven: dict[int, list[Edge]] = {}
        for edge in edges:
            if edge.predictor is None:
                driven.setdefault(edge.delay, []).append(edge)
            else:
                blocks.append(self._predictor_block(edge))
        for members in driven.values():
            blocks += self._drive_blocks([members])
        return tuple(blocks)

    def _predictor_block(self, edge: Edge) -> Block:
        predictors, name = self.network.predictors, edge.name

        def predict(env: Env) -> tuple[Tensor, ...]:
            return (predictors[name](*read(edge, env)),)

        return Block((edge,), edge.sources, edge.delay, self._pulled([edge]), predict)

    def _groups(self) -> Iterable[Group]:
        """The delayed blocks, and the delayed terms that only edges at rest predict."""
        tied = nx.Graph()
        tied.add_nodes_from(range(len(self.delayed)))
        tied.add_edges_from((i, e.bundle) for i, block in enumerate(self.delayed) for e in block.edges)
        tied.add_nodes_from(name for name, members in self.terms.items() if members[0].delay)
        together: set[int | str] = set()
        count = 0
        for members in nx.connected_components(tied):
            added = self._numbers(members)
            if together and count + added > SMALL:
                yield self._group(together)
                together, count = set(), 0
            together |= members
            count += added
        if together:
            yield self._group(together)

    def _group(self, members: set[int | str]) -> Group:
        blocks = [self.delayed[place] for place in sorted(one for one in members if isinstance(one, int))]
        terms = [name for name in self.terms if name in members]
        draws = {name: self.gains.target[name] for name in terms if self._draws(name)}
        return Group(tuple(blocks), tuple(terms), draws)

    def _numbers(self, members: set[int | str]) -> int:
        """How many numbers the errors of these terms have for one image."""
        nodes = self.network.graph.nodes
        return sum(math.prod(nodes[self.terms[m][0].target].shape) for m in members if isinstance(m, str))

    def _draws(self, term: str) -> bool:
        return self.terms[term][0].target in self._moves and _nonzero(self.gains.target[term])

    def _drive_blocks(self, groups: list[list[Edge]]) -> list[Block]:
        """Consecutive passes of the drive program, one a group; a later one reuses the earlier's values."""
        assert self.network.drive is not None
        stages = self.network.drive.stages([[edge.target for edge in group] for group in groups], self.fixed)
        blocks = []
        for group, stage in zip(groups, stages, strict=True):
            # a pass may also ask a state for its size alone, which makes no edge
            sources = tuple(name for name in stage.takes if name in self.network.graph.nodes)
            results = tuple(f"{edge.target}.prediction" for edge in group)
            function = partial(_drive_pass, stage, results)
            blocks.append(Block(tuple(group), sources, group[0].delay, self._pulled(group), function))
        return blocks

    def _visits(self, instant: list[Edge]) -> list[Visit]:
        order = [name for name in self.network.graph.sweep_order() if name in self._moves]
        driven = {edge.target: edge for edge in instant if edge.predictor is None}
        groups = [[driven[name]] for name in order if name in driven]
        passes = {block.edges[0].target: block for block in self._drive_blocks(groups)} if groups else {}
        visits = []
        into: dict[str, list[Edge]] = {}
        for edge in instant:
            into.setdefault(edge.target, []).append(edge)
        for name in order:
            blocks = [self._predictor_block(e) for e in into.get(name, ()) if e.predictor is not None]
            if name in passes:
                blocks.append(passes[name])
            terms = [term for term in self.network.graph.terms_into(name) if term in self.terms]
            drawing = [term for term in terms if self.terms[term][0].delay == 0 and self._draws(term)]
            draws = [(term, self.gains.target[term]) for term in drawing]
            visits.append(Visit(name, tuple(blocks), tuple(draws)))
        return visits


def _drive_pass(stage: Stage, results: tuple[str, ...], env: Env) -> tuple[Tensor, ...]:
    given = stage(env)  # or, of a prediction that rests, what was computed once a run
    predictions = tuple(given.pop(name) if name in given else env[name] for name in results)
    env.update(given)
    return predictions


def _in(name: str, block: frozenset[str] | None) -> bool:
    return block is None or name in block


def _nonzero(gain: Scalar) -> bool:
    return isinstance(gain, Tensor) or gain != 0
