"""Rules: how strongly each error moves each node.

One step of every rule is, with the weighted error ``xi_e = precision_e * (x_target - f_e(x_sources))``,

    x_n  <-  x_n  -  sum over terms e into n of   a_e * xi_e
                  +  sum over edges e out of n of b_e * s_e * J_e(x_n)^T xi_e

and a rule is nothing but a choice of the gains ``a_e``, ``b_e`` and the scales ``s_e``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from pcgraph.dynamics.automatic import Carried, automatic
from pcgraph.dynamics.descent import Descent
from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.graph import Edge, Kind, PCGraph
from pcgraph.spec.dynamics import EnergyDynamics, PredifyDynamics

Scalar = float | Tensor
Pair = tuple[str, str]
"""An edge and one of its sources."""
SHARES: tuple[Kind, ...] = ("feedforward", "feedback")
ROUNDING = 1e-5
"""By so much the gains of a node may exceed 1: tuned ones are written with six digits."""


@dataclass(frozen=True)
class Gains:
    """The numbers of one rule on one graph.

    Attributes:
        target: ``a_e`` by error term.
        source: ``b_e`` by edge and source node; a pair that is missing carries no error back.
        scale: ``s_e`` by edge; 1 where it is missing.
    """

    target: Mapping[str, Scalar]
    source: Mapping[tuple[str, str], Scalar]
    scale: Mapping[str, float]


class Dynamics(nn.Module):
    """Base of the rules.

    Attributes:
        descent: How the states follow the gains' directions; None adds them up, and nothing else.
    """

    descent: Descent | None = None

    def gains(self, batch: int) -> Gains:
        """The gains for a batch of ``batch`` images."""
        raise NotImplementedError


class Predify(Dynamics):
    """Leaky integration (Choksi et al. 2021, "Predify", eq. 1, on any graph).

    A feedforward edge has ``a_e = beta_n`` and ``b_e = 0``; a feedback edge from m into n has
    ``a_e = lambda_n`` and ``b_e = alpha_m``. The spec's ``share`` says whether the terms into n divide
    lambda_n evenly, and whether the edges out of m divide alpha_m; those with their own gains take no part.

    Args:
        graph: The graph.
        spec: The values of beta, lambda and alpha, and the scale of the gradient.
        reach: C of each feedback edge; needed for gradient ``normalized`` alone.
        carried: By edge and source, what errors do to the source; needed for ``error: auto`` alone.
    """

    def __init__(
        self,
        graph: PCGraph,
        spec: PredifyDynamics,
        reach: Mapping[str, float],
        carried: Mapping[Pair, Carried] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.graph = graph
        self.spec = spec
        self.reach = dict(reach)
        self.carried = dict(carried)

    def gains(self, batch: int) -> Gains:
        """See `Dynamics.gains`."""
        values = self.values()
        source: dict[Pair, Scalar] = {}
        scale = {}
        for edge in self.graph.edges.values():
            for node in edge.sources:
                alpha = self._alpha(edge, node, values)
                if edge.delay and (isinstance(alpha, Tensor) or alpha):
                    source[edge.name, node] = alpha
                    scale[edge.name] = self.scale(edge, batch)
        return Gains(self._target(values), source, scale)

    def values(self) -> Mapping[tuple[str, str], Scalar]:
        """The beta (``feedforward``), lambda (``feedback``) and alpha (``error``) of each node."""
        found: dict[tuple[str, str], Scalar] = {}
        for node in self.graph.nodes:
            for name in ("feedforward", "feedback", "error"):
                given = self._given(node, name)
                if given == "auto":  # which is found for each edge
                    found[node, name] = self.auto.get(node, 0.0) * self.sharing(node, name)
                else:
                    found[node, name] = float(given)
        return found

    @cached_property
    def auto(self) -> dict[str, float]:
        """By node, what ``error: auto`` stands for, its own or its edges'; NaN where it is not measured.

        It is for one image: gradient ``mean`` moves the states of larger batches less.
        """
        shares = {(node, name): self._given(node, name) for node in self.graph.nodes for name in SHARES}
        target = self._target({key: float(share) for key, share in shares.items()})
        readers: dict[str, list[Edge]] = {node: [] for node in self.graph.nodes}
        for edge in self.graph.edges.values():
            for source in set(edge.sources if edge.delay else ()):
                readers[source].append(edge)
        found = {}
        for node, reading in readers.items():
            asked = {edge.name: self._asked(edge, node) for edge in reading}
            scales = {edge.name: self.scale(edge, 1) for edge in reading if asked[edge.name] != 0}
            carried = {name: self.carried[name, node] for name in scales if (name, node) in self.carried}
            edges = {name: scale for name, scale in scales.items() if asked[name] == "auto"}
            if edges:
                others = sum(
                    float(asked[name]) * scale * (carried[name].stretch if name in carried else math.nan)
                    for name, scale in scales.items()
                    if name not in edges
                )
                kept = 1 - sum(float(target[term]) for term in self.graph.terms_into(node))
                found[node] = automatic(kept, others, edges, carried)
        return found

    def memory(self) -> dict[str, float]:
        """By node that receives a prediction, the share of itself that it keeps in a step."""
        target = {name: float(gain) for name, gain in self._target(self.values()).items()}
        into = {node: self.graph.terms_into(node) for node in self.graph.nodes}
        return {node: 1 - sum(target[term] for term in terms) for node, terms in into.items() if terms}

    def scale(self, edge: Edge, batch: int) -> float:
        """``s_e`` of an edge."""
        if self.spec.gradient == "mean":
            return 2 / (batch * math.prod(self.graph.nodes[edge.target].shape))
        if self.spec.gradient == "normalized":
            return 2 / math.sqrt(self.reach[edge.name])
        return 1.0

    def _target(self, values: Mapping[tuple[str, str], Scalar]) -> dict[str, Scalar]:
        target: dict[str, Scalar] = {}
        for node in self.graph.nodes:
            for kind in SHARES:
                for name in self.graph.terms_into(node, kind):
                    gain = self.graph.terms[name][0].gain
                    target[name] = values[node, kind] / self.sharing(node, kind) if gain is None else gain
        return target

    def sharing(self, node: str, name: str) -> int:
        """How many divide a node's beta (``feedforward``), lambda (``feedback``) or alpha (``error``)."""
        if name == "error":
            return max(len(self.moving[node]), 1) if self.spec.share.error == "source" else 1
        whole = name == "feedback" and self.spec.share.feedback == "edge"
        kind: Kind = "feedback" if name == "feedback" else "feedforward"
        return 1 if whole else max(len(self.drawing(node, kind)), 1)

    def drawing(self, node: str, kind: Kind) -> list[str]:
        """The error terms into a node that draw it with its own beta or lambda."""
        return [term for term in self.graph.terms_into(node, kind) if self.graph.terms[term][0].gain is None]

    @cached_property
    def moving(self) -> dict[str, list[str]]:
        """By node, the edges whose errors move it with its own alpha."""
        found: dict[str, list[str]] = {node: [] for node in self.graph.nodes}
        for edge in self.graph.edges.values():
            if edge.kind == "feedback" and edge.delay and edge.error is None:
                for source in edge.sources:
                    found[source].append(edge.name)
        return found

    def _given(self, node: str, name: str) -> float | Literal["auto"]:
        """What the spec says of a node."""
        own = getattr(self.spec.nodes.get(node), name, None)
        given: float | Literal["auto"] = getattr(self.spec, name) if own is None else own
        return given

    def _asked(self, edge: Edge, node: str) -> float | Literal["auto"]:
        """What the spec says of the errors of an edge and one of its sources."""
        if edge.error is not None:
            return edge.error
        given = self._given(node, "error") if edge.kind == "feedback" else 0.0
        return given if given == "auto" or not given else given / self.sharing(node, "error")

    def _alpha(self, edge: Edge, node: str, values: Mapping[tuple[str, str], Scalar]) -> Scalar:
        if edge.error is not None:
            return self.auto[node] if edge.error == "auto" else edge.error
        return values[node, "error"] / self.sharing(node, "error") if edge.kind == "feedback" else 0.0


def check_memory(rule: Predify) -> None:
    """Make sure that no step replaces more of a state than there is, unless the spec allows it.

    The image's node is passed over: it is held.

    Raises:
        SpecError: At the gains of each such node.
    """
    if rule.spec.allow_negative_memory:
        return
    faults = []
    for node, memory in rule.memory().items():
        if node == rule.graph.receiver or memory >= -ROUNDING:
            continue
        parts = [f"{name} {gain:.6g}" for name, gain in _parts(rule, node)]
        message = f"a step replaces {1 - memory:.6g} times the state of '{node}': {', '.join(parts)}"
        hint = "Lower them to a sum of 1, or write 'allow_negative_memory: true' under 'dynamics'."
        path: FieldPath = ("dynamics", "nodes", node) if node in rule.spec.nodes else ("dynamics",)
        faults.append(Fault(message, path, hint))
    if faults:
        raise SpecError(faults)


def _parts(rule: Predify, node: str) -> list[tuple[str, float]]:
    """What a node is drawn by, with how much of it."""
    target = rule.gains(1).target
    return [(term, float(target[term])) for term in rule.graph.terms_into(node)]


class Energy(Dynamics):
    """Gradient descent on ``F``, the sum of all terms' energies (``precision_e * |error_e|^2 / 2``).

    Every edge has ``a_e = rate_target`` and ``b_e = rate_source``; delay-0 edges carry nothing back
    (Whittington & Bogacz 2017; Millidge et al. 2022, eq. 3, on any graph).
    """

    def __init__(self, graph: PCGraph, spec: EnergyDynamics) -> None:
        super().__init__()
        self.graph = graph
        self.spec = spec
        self.rate = {name: spec.nodes[name].rate if name in spec.nodes else spec.rate for name in graph.nodes}
        if Descent.needed(spec):
            self.descent = Descent(spec, self.rate)

    def gains(self, batch: int) -> Gains:
        """See `Dynamics.gains`."""
        rate = self.rate
        if self.descent is not None:  # which knows the rates; it wants the gradient itself
            rate = {name: float(one > 0) for name, one in rate.items()}
        return Gains(
            {name: rate[edge.target] for name, (edge, *_) in self.graph.terms.items()},
            {
                (edge.name, node): rate[node]
                for edge in self.graph.edges.values()
                for node in edge.sources
                if edge.delay and rate[node]
            },
            {},
        )
