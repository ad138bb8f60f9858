"""A network as plain values, for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from pcgraph.network import PCNetwork
from pcgraph.report.budgets import Budget, budgets
from pcgraph.report.labels import predictor_text
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
