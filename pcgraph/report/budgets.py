"""How much of each node's state a step replaces, and by what: the budgets that wirings are compared by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pcgraph.dynamics.gains import ROUNDING, Predify
from pcgraph.errors import Fault, FieldPath
from pcgraph.network import PCNetwork


@dataclass(frozen=True)
class Budget:
    """What one step does to a node, all edges together.

    Attributes:
        node: Its name.
        feedforward: The share that feedforward predictions replace.
        feedback: The share that feedback predictions replace.
        memory: The share that stays.
        error: The sum of the gains with which errors move it; NaN where `auto` has not been found.
    """

    node: str
    feedforward: float
    feedback: float
    memory: float
    error: float

    @property
    def text(self) -> str:
        """``β 0.8  λ 0.1  memory 0.1  α 0.02``."""
        parts = {"β": self.feedforward, "λ": self.feedback, "memory": self.memory, "α": self.error}
        shown = {name: "auto" if math.isnan(one) else f"{one:.3g}" for name, one in parts.items()}
        return "  ".join(f"{name} {one}" for name, one in shown.items())


def budgets(network: PCNetwork) -> list[Budget]:
    """The budget of every node that moves; none under another rule than `predify`."""
    rule, graph = network.dynamics, network.graph
    if not isinstance(rule, Predify):
        return []
    gains = rule.gains(1)
    found = []
    for node, memory in rule.memory().items():
        drawn = {
            kind: sum(float(gains.target[term]) for term in graph.terms_into(node, kind))
            for kind in ("feedforward", "feedback")
        }
        error = sum(float(one) for (_, source), one in gains.source.items() if source == node)
        if network.drive is None or node != graph.receiver:
            found.append(Budget(node, drawn["feedforward"], drawn["feedback"], memory, error))
    return found


def crowded(network: PCNetwork) -> Iterator[Fault]:
    """Nodes whose beta and lambda sum to more than 1 although fewer edges than that draw them."""
    rule = network.dynamics
    if not isinstance(rule, Predify):
        return
    values = rule.values()
    for one in budgets(network):
        total = float(values[one.node, "feedforward"]) + float(values[one.node, "feedback"])
        if total <= 1 + ROUNDING or one.memory < -ROUNDING:
            continue
        path: FieldPath = ("dynamics", "nodes", one.node) if one.node in rule.spec.nodes else ("dynamics",)
        used = f"{1 - one.memory:.6g}"
        message = f"'feedforward' + 'feedback' of '{one.node}' is {total:.6g}, of which its edges use {used}"
        yield Fault(message, path, "Another edge into it could replace more than its state.")
