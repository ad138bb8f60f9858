"""A network as plain values, for JSON, and what one of its steps costs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pcgraph.network import PCNetwork
from pcgraph.report.budgets import Budget, budgets
from pcgraph.report.labels import predictor_text
from pcgraph.scheduler import Scheduler
from pcgraph.spec import EnergyDynamics


def describe(network: PCNetwork) -> dict[str, Any]:
    """Nodes, edges with the gains that hold for them, and starts, as lists, numbers and strings."""
    graph, dynamics = network.graph, network.spec.dynamics
    gains = network.dynamics.gains(1)
    budget = {one.node: _plain(one) for one in budgets(network)}
    nodes = []
    for node in graph.nodes.values():
        row: dict[str, Any] = {"name": node.name, "shape": list(node.shape), "module": node.module}
        if isinstance(dynamics, EnergyDynamics):
            own = dynamics.nodes.get(node.name)
            row["rate"] = dynamics.rate if own is None else own.rate
        if node.name in budget:
            row["budget"] = budget[node.name]
        nodes.append(row)
    edges = []
    for edge in graph.edges.values():
        row = {
            "name": edge.name,
            "kind": edge.kind,
            "sources": list(edge.sources),
            "target": edge.target,
            "predictor": predictor_text(edge),
            "delay": edge.delay,
            "bundle": edge.bundle if len(graph.terms[edge.bundle]) > 1 else None,
        }
        if isinstance(dynamics, EnergyDynamics):
            row["precision"] = edge.precision
        else:
            row["gain"] = float(gains.target[edge.bundle])
            errors = {node: float(gains.source.get((edge.name, node), 0.0)) for node in edge.sources}
            row["error"] = {node: "auto" if math.isnan(error) else error for node, error in errors.items()}
        edges.append(row)
    starts = [
        {
            "name": start.name,
            "sources": list(start.sources),
            "target": start.target,
            "predictor": predictor_text(start),
        }
        for start in graph.starts.values()
    ]
    schedule = network.spec.schedule
    return {
        "name": network.spec.name,
        "rule": dynamics.rule,
        "order": schedule.order,
        "steps": schedule.steps,
        "nodes": nodes,
        "edges": edges,
        "starts": starts,
    }


def _plain(budget: Budget) -> dict[str, Any]:
    values = {name: value for name, value in asdict(budget).items() if name != "node"}
    return {name: "auto" if math.isnan(value) else value for name, value in values.items()}


def step_cost(network: PCNetwork) -> int | None:
    """Multiply-adds of one step for one image: predictions and error gradients, without the output.

    Counted by one step on tensors without storage; the network is moved to the ``meta`` device for it
    and is of no other use afterwards.

    Returns:
        None where the model or a predictor needs real numbers.
    """
    scheduler = Scheduler(network.to("meta"))
    receiver = network.graph.nodes[network.graph.receiver]
    try:
        state = scheduler.start(torch.empty(1, *receiver.shape, device="meta"))
        counter = OperationCounter()
        with counter:
            scheduler.step(state)
    except Exception:  # whatever a foreign module raises on tensors without values
        return None
    return counter.operations // 2


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations by torch's own formulas.

    torch's counter, `FlopCounterMode`, cannot be used around `torch.autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=result)
        return result
