"""The rule `predify` with values that can be learned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcgraph.dynamics.gains import Predify, Scalar
from pcgraph.errors import Fault, SpecError
from pcgraph.spec.dynamics import NodeGains, PredifyDynamics

SHARES = ("feedforward", "feedback", "memory")
SMALLEST = 1e-6
DIGITS = 6


class TunablePredify(Predify):
    """Leaky integration whose beta, lambda, memory and alpha are functions of raw parameters.

    The shares are normalised sigmoids, so that they sum to 1 whatever the raw values are (the
    parameterisation of the Predify package, Choksi et al. 2021):

        beta = sigmoid(r_feedforward) / (sigmoid(r_feedforward) + sigmoid(r_feedback) + sigmoid(r_memory))

    and so on. alpha is a raw value, taken as 0 where it is negative; the gradient passes even then, so
    that it can come back. At first all values are those of the given rule. A share or an alpha that is
    0 there stays 0: a pathway that is cut stays cut. Edges that set their own gains keep them.

    A node that receives no feedback keeps ``1 - beta`` of itself; its lambda is then more memory. Where edges
    into a node set their own gains, the shares sum to what these leave; and where each edge draws with all of
    lambda (``share``), its share is lambda times their number. So no step replaces more than the state.

    Args:
        rule: The rule to start from.
        shared: Whether all nodes have the same values, or each its own.

    Attributes:
        nodes: The nodes whose values are learned: all but the one that receives the images.
        raw: The raw parameters by name, each (nodes,), or (1,) if shared.

    Raises:
        SpecError: beta + lambda, and what edges have as gains of their own, is more than 1; or the values
            shall be shared, but the spec gives single nodes their own.
    """

    def __init__(self, rule: Predify, *, shared: bool = False) -> None:
        super().__init__(rule.graph, rule.spec, rule.reach, rule.carried)
        self.shared = shared
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
        groups = [self.nodes] if shared else [(node,) for node in self.nodes]
        left = [min(self._left(node) for node in group) for group in groups]
        times = [max(self._times(node) for node in group) for group in groups]
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
        self.float()

    def values(self) -> Mapping[tuple[str, str], Scalar]:
        """See `Predify.values`; differentiable."""
        parts = torch.stack([self.raw[name] for name in SHARES]).sigmoid() * self.uncut[:3]
        beta, feedback, _ = parts / parts.sum(dim=0) * self.left
        feedback = feedback / self.times
        error = self.raw["error"]
        error = (error + (error.clamp(min=0) - error).detach()) * self.uncut[3]
        found = dict(super().values())
        for name, column in {"feedforward": beta, "feedback": feedback, "error": error}.items():
            entries = column.unbind()
            for index, node in enumerate(self.nodes):
                found[node, name] = entries[0 if self.shared else index]
        return found

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
        with torch.no_grad():
            values = {key: _rounded(float(value)) for key, value in self.values().items()}
        found = {
            node: {name: values[node, name] for name in ("feedforward", "feedback", "error")}
            for node in self.nodes
        }
        if self.shared:
            return self.spec.model_copy(update=found[self.nodes[0]])
        own = {node: NodeGains(**numbers) for node, numbers in found.items()}
        return self.spec.model_copy(update={"nodes": {**self.spec.nodes, **own}})


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
