"""A network with one error term taken out, and nothing else changed."""

from __future__ import annotations

from pcgraph.dynamics.gains import Dynamics, Gains


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
