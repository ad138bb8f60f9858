"""Gains that edges set themselves, as values that can be learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.graph import PCGraph

SMALLEST = 1e-6
DIGITS = 6


class OwnGains(nn.Module):
    """The edges' own gains a_e and b_e as functions of raw parameters.

    All that draws a node with a gain of its own shares what there is with the rest, by a softmax in which the
    rest has the logit 0:

        a_e = room * exp(r_e) / (1 + sum over e' of exp(r_e'))

    so that no step replaces more than the state. b_e is a raw value, taken as 0 where it is negative; the
    gradient passes even then. At first they are what the edges say. What is 0 there stays 0, and so stay
    ``auto`` and the gains into the node that receives the images, which is held.

    Args:
        graph: With the edges.
        taken: By node, what is not there to be shared: its own beta and lambda, where these do not learn.

    Attributes:
        terms: The error terms whose gain is learned.
        edges: The edges whose error gain is learned.
        raw: The raw parameters: ``gain`` (terms,), ``error`` (edges,).
    """

    def __init__(self, graph: PCGraph, taken: Mapping[str, float]) -> None:
        super().__init__()
        self.graph, self.nodes = graph, tuple(taken)
        gains = {term: edge.gain for term, (edge, *_) in graph.terms.items() if edge.gain is not None}
        into = {node: [term for term in graph.terms_into(node) if term in gains] for node in taken}
        self.terms = tuple(term for terms in into.values() for term in terms if gains[term] > 0)
        errors = {
            name: edge.error
            for name, edge in graph.edges.items()
            if isinstance(edge.error, float | int) and edge.error > 0 and edge.delay
        }
        self.edges = tuple(errors)
        first = []
        for node in taken:
            rest = max(1 - taken[node] - sum(gains[term] for term in into[node]), SMALLEST)
            first += [gains[term] / rest for term in into[node] if term in self.terms]
        self.raw = nn.ParameterDict(
            {
                "gain": nn.Parameter(torch.tensor(first, dtype=torch.float64).log()),
                "error": nn.Parameter(torch.tensor(list(errors.values()), dtype=torch.float64)),
            }
        )
        self.room: Tensor
        self.register_buffer(
            "room", torch.tensor([1 - one for one in taken.values()], dtype=torch.float64), persistent=False
        )

    def gains(self) -> dict[str, Tensor]:
        """a_e by error term; differentiable."""
        strength = dict(zip(self.terms, self.raw["gain"].exp().unbind(), strict=True))
        found = {}
        for place, node in enumerate(self.nodes):
            own = [term for term in self.graph.terms_into(node) if term in strength]
            if own:
                whole = 1 + torch.stack([strength[term] for term in own]).sum()
                found.update({term: self.room[place] * strength[term] / whole for term in own})
        return found

    def errors(self) -> dict[str, Tensor]:
        """b_e by edge; differentiable."""
        raw = self.raw["error"]
        return dict(zip(self.edges, (raw + (raw.clamp(min=0) - raw).detach()).unbind(), strict=True))

    def left(self) -> dict[str, Tensor]:
        """By node, what its edges' own gains leave."""
        gains = self.gains()
        into = {
            node: [gains[term] for term in self.graph.terms_into(node) if term in gains]
            for node in self.nodes
        }
        one = torch.ones_like(self.room[0])
        return {node: one - torch.stack(own).sum() if own else one for node, own in into.items()}

    def plain(self) -> dict[str, dict[str, float]]:
        """The present numbers by edge, ``gain`` and ``error``, as a spec holds them."""
        found: dict[str, dict[str, float]] = {}
        with torch.no_grad():
            for term, gain in self.gains().items():
                for edge in self.graph.terms[term]:
                    found.setdefault(edge.name, {})["gain"] = rounded(float(gain))
            for name, error in self.errors().items():
                found.setdefault(name, {})["error"] = rounded(float(error))
        return found


def with_gains(graph: PCGraph, numbers: Mapping[str, Mapping[str, Any]]) -> PCGraph:
    """A graph with other numbers as the ``gain`` and ``error`` of some edges."""
    edges = [replace(edge, **numbers.get(name, {})) for name, edge in graph.edges.items()]
    return PCGraph(graph.nodes.values(), edges, graph.starts.values())


def rounded(value: float) -> float:
    """With as many digits as a spec is written with."""
    return float(f"{value:.{DIGITS}g}")
