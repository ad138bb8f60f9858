"""The rule `predify` with values that can be learned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcgraph.dynamics.gains import Predify, Scalar
from pcgraph.dynamics.own_gains import OwnGains, rounded
from pcgraph.errors import Fault, SpecError
from pcgraph.graph import Edge
from pcgraph.spec.dynamics import NodeGains, PredifyDynamics

SHARES = ("feedforward", "feedback", "memory")
SMALLEST = 1e-6


class TunablePredify(Predify):
    """Leaky integration whose beta, lambda, memory and alpha are functions of raw parameters.

    The shares are normalised sigmoids, so that they sum to 1 whatever the raw values are (the
    parameterisation of the Predify package, Choksi et al. 2021):

        beta = sigmoid(r_feedforward) / (sigmoid(r_feedforward) + sigmoid(r_feedback) + sigmoid(r_memory))

    and so on. alpha is a raw value, taken as 0 where it is negative; the gradient passes even then, so
    that it can come back. At first all values are those of the given rule. A share or an alpha that is
    0 there stays 0: a pathway that is cut stays cut. Edges that set their own gains keep them, unless these
    are learned, too; see `OwnGains`.

    A node that receives no feedback keeps ``1 - beta`` of itself; its lambda is then more memory. Where edges
    into a node set their own gains, the shares sum to what these leave; and where each edge draws with all of
    lambda (``share``), its share is lambda times their number. So no step replaces more than the state.

    Args:
        rule: The rule to start from.
        shared: Whether all nodes have the same values, or each its own.
        nodes: Whether the nodes' values are learned.
        edges: Whether edges' own gains are learned.

    Attributes:
        nodes: The nodes whose values are learned: all but the one that receives the images.
        raw: The raw parameters of the nodes by name, each (nodes,), or (1,) if shared.
        own: Those of the edges; None if they keep their gains.

    Raises:
        SpecError: beta + lambda, and what edges have as gains of their own, is more than 1; the values shall
            be shared, but the spec gives single nodes their own; or edges' gains are learned, and an edge of
            several sources has the ``error`` ``auto``.
    """

    def __init__(
        self, rule: Predify, *, shared: bool = False, nodes: bool = True, edges: bool = False
    ) -> None:
        super().__init__(rule.graph, rule.spec, rule.reach, rule.carried)
        self.shared, self.moves_nodes = shared, nodes
        self.nodes = tuple(name for name in rule.graph.nodes if name != rule.graph.receiver)
        if shared and rule.spec.nodes:
            given = ", ".join(f"'{name}'" for name in rule.spec.nodes)
            message = f"shared values cannot be tuned while {given} have values of their own"
            raise SpecError(Fault(message, ("dynamics", "nodes"), "Tune them per node, or remove these."))
        values = rule.values()
        places = self.nodes[:1] if shared else self.nodes
        first = {
            name: torch.tensor([float(values[node, name]) for node in places], dtype=torch.float64)
            for name in ("feedforward", "feedback", "error")
        }
        self.groups = [self.nodes] if shared else [(node,) for node in self.nodes]
        left = [min(self._left(node) for node in group) for group in self.groups]
        times = [max(self._times(node) for node in group) for group in self.groups]
        self.left: Tensor
        self.times: Tensor
        self.register_buffer("left", torch.tensor(left, dtype=torch.float64), persistent=False)
        self.register_buffer("times", torch.tensor(times, dtype=torch.float64), persistent=False)
        first["feedback"] = first["feedback"] * self.times
        first["memory"] = self.left - first["feedforward"] - first["feedback"]
        for node, memory in zip(places, first["memory"].tolist(), strict=True):
            if memory < -SMALLEST:
                message = f"beta + lambda of '{node}' is {1 - memory:.6g}, and shares sum to 1 at most"
                raise SpecError(Fault(message, ("dynamics",), "Lower 'feedforward' or 'feedback'."))
        within = {name: first[name] / self.left.clamp(min=SMALLEST) for name in SHARES}
        self.raw = nn.ParameterDict({name: nn.Parameter(within[name].logit(SMALLEST)) for name in SHARES})
        self.raw["error"] = nn.Parameter(first["error"].clone())
        self.uncut: Tensor
        uncut = torch.stack([first[name] > SMALLEST for name in (*SHARES, "error")])
        self.register_buffer("uncut", uncut, persistent=False)
        self.own: OwnGains | None = None
        if edges:
            self._check_auto()
            taken = {node: 0.0 if nodes else self._taken(node, values) for node in self.nodes}
            self.own = OwnGains(rule.graph, taken)
        self.float()

    def values(self) -> Mapping[tuple[str, str], Scalar]:
        """See `Predify.values`; differentiable."""
        if not self.moves_nodes:
            return super().values()
        parts = torch.stack([self.raw[name] for name in SHARES]).sigmoid() * self.uncut[:3]
        beta, feedback, _ = parts / parts.sum(dim=0) * self._all_left()
        feedback = feedback / self.times
        error = self.raw["error"]
        error = (error + (error.clamp(min=0) - error).detach()) * self.uncut[3]
        found = dict(super().values())
        for name, column in {"feedforward": beta, "feedback": feedback, "error": error}.items():
            entries = column.unbind()
            for index, node in enumerate(self.nodes):
                found[node, name] = entries[0 if self.shared else index]
        return found

    def _target(self, values: Mapping[tuple[str, str], Scalar]) -> dict[str, Scalar]:
        found = super()._target(values)
        return found if self.own is None else {**found, **self.own.gains()}

    def _alpha(self, edge: Edge, node: str, values: Mapping[tuple[str, str], Scalar]) -> Scalar:
        learned = {} if self.own is None else self.own.errors()
        return learned[edge.name] if edge.name in learned else super()._alpha(edge, node, values)

    def _all_left(self) -> Tensor:
        """What is left for the nodes' shares, (nodes,) or (1,) if shared."""
        if self.own is None:
            return self.left
        left = self.own.left()
        return torch.stack([torch.stack([left[node] for node in group]).amin() for group in self.groups])

    def _check_auto(self) -> None:
        for edge in self.graph.edges.values():
            if edge.error == "auto" and len(edge.sources) > 1:
                message = f"'{edge.name}' has several sources, and error 'auto' is not one number"
                raise SpecError(Fault(message, (*edge.path, "error"), "Write a number."))

    def _taken(self, node: str, values: Mapping[tuple[str, str], Scalar]) -> float:
        """What a node's shares take of it, where they are what they are."""
        shares = [term for term in self.graph.terms_into(node) if self.graph.terms[term][0].gain is None]
        target = Predify._target(self, values)
        return sum(float(target[term]) for term in shares)

    def _left(self, node: str) -> float:
        """What the edges into a node that set their own gains leave."""
        own = [self.graph.terms[term][0].gain for term in self.graph.terms_into(node)]
        return 1 - sum(gain for gain in own if gain is not None)

    def _times(self, node: str) -> int:
        """How many feedback predictions draw a node with all of its lambda."""
        drawing = len(self.drawing(node, "feedback")) if self.spec.share.feedback == "edge" else 1
        return max(drawing, 1)

    def plain(self) -> PredifyDynamics:
        """The present values as a spec holds them: what is left of the tuning is these numbers."""
        if not self.moves_nodes:
            return self._without_auto()
        with torch.no_grad():
            values = {key: rounded(float(value)) for key, value in self.values().items()}
        found = {
            node: {name: values[node, name] for name in ("feedforward", "feedback", "error")}
            for node in self.nodes
        }
        if self.shared:
            return self.spec.model_copy(update=found[self.nodes[0]])
        own = {node: NodeGains(**numbers) for node, numbers in found.items()}
        return self.spec.model_copy(update={"nodes": {**self.spec.nodes, **own}})

    def plain_gains(self) -> dict[str, dict[str, float]]:
        """The same of the edges' own gains, by edge: ``gain`` and ``error``; none if they keep theirs."""
        if self.own is None:
            return {}
        found = self.own.plain()
        for edge in self.graph.edges.values():
            if edge.error == "auto" and edge.delay:
                found.setdefault(edge.name, {})["error"] = self.auto[edge.sources[0]]
        return found

    def _without_auto(self) -> PredifyDynamics:
        """The spec's values, with the number that each ``auto`` stands for: it depends on the other gains."""
        numbers = {
            node: self.spec.nodes.get(node, NodeGains()).model_copy(update={"error": self.auto[node]})
            for node in self.nodes
            if self._given(node, "error") == "auto" and node in self.auto
        }
        return self.spec.model_copy(update={"nodes": {**self.spec.nodes, **numbers}})
