"""A network with one error term taken out, and nothing else changed."""

from __future__ import annotations

import copy

from pcgraph.dynamics.gains import Dynamics, Gains
from pcgraph.network import PCNetwork


class Lesioned(Dynamics):
    """A rule whose gains are those of another, but for one term, which moves nothing.

    Args:
        rule: The other.
        term: The error term.
        edges: The names of its edges.
    """

    def __init__(self, rule: Dynamics, term: str, edges: frozenset[str]) -> None:
        super().__init__()
        self.rule, self.term, self.edges = rule, term, edges
        self.descent = rule.descent

    def gains(self, batch: int) -> Gains:
        """See `Dynamics.gains`."""
        whole = self.rule.gains(batch)
        source = {pair: gain for pair, gain in whole.source.items() if pair[0] not in self.edges}
        return Gains({**whole.target, self.term: 0.0}, source, whole.scale)


def lesioned(network: PCNetwork, term: str) -> PCNetwork:
    """The network without an error term: the same weights, and the gains of all others as they are."""
    edges = frozenset(edge.name for edge in network.graph.terms[term])
    return with_dynamics(network, Lesioned(network.dynamics, term, edges))


def with_dynamics(network: PCNetwork, rule: Dynamics) -> PCNetwork:
    """The same network, with its very parameters, under another rule."""
    other = copy.copy(network)
    other._modules = dict(network._modules)  # which the shallow copy would share
    other.dynamics = rule
    return other


def terms_of_predictors(network: PCNetwork) -> list[str]:
    """The error terms that can be taken out: those whose edges the backbone does not compute."""
    return [
        name
        for name, edges in network.graph.terms.items()
        if all(edge.name in network.predictors for edge in edges)
    ]
