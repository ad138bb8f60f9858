"""A network as plain values, for JSON, and what one of its steps costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pcgraph.network import PCNetwork
from pcgraph.report.budgets import Budget, budgets
from pcgraph.report.labels import predictor_text
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.plan import Plan
from pcgraph.spec import EnergyDynamics
from pcgraph.spec.layout import Shape


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

    Counted on tensors without storage; the network is moved to the ``meta`` device for it and is of no other
    use afterwards. With a backbone by one step; without one by its predictors, those that are alike once.

    Returns:
        None where the model or a predictor needs real numbers.
    """
    counted = _cost_of_predictors if network.drive is None else cost_of_one_step
    try:
        return counted(network.to("meta"))
    except Exception:  # whatever a foreign module raises on tensors without values
        return None


def cost_of_one_step(network: PCNetwork) -> int:
    """Of a network on the ``meta`` device, by making a step."""
    scheduler = Scheduler(network)
    receiver = network.graph.nodes[network.graph.receiver]
    state = scheduler.start(torch.empty(1, *receiver.shape, device="meta"))
    counter = OperationCounter()
    with counter:
        scheduler.step(state)
    return counter.operations // 2


def _cost_of_predictors(network: PCNetwork) -> int:
    graph = network.graph
    plan = Plan(network, network.dynamics.gains(1), frozenset([graph.receiver]))
    blocks = [*plan.delayed, *(block for visit in plan.visits for block in visit.blocks)]
    known: dict[tuple[object, ...], int] = {}
    total = 0
    for block in blocks:
        (edge,) = block.edges
        shapes = tuple(graph.nodes[source].shape for source in edge.sources)
        pulled = tuple(source in block.pulled for source in edge.sources)
        key = (repr(edge.predictor), shapes, graph.nodes[edge.target].shape, pulled)
        if key not in known:
            known[key] = _cost_of_prediction(network.predictors[edge.name], shapes, pulled)
        total += known[key]
    return total


def _cost_of_prediction(predictor: nn.Module, shapes: Sequence[Shape], pulled: Sequence[bool]) -> int:
    """Forth, and back to the sources that errors move."""
    with OperationCounter() as counter, torch.set_grad_enabled(any(pulled)):
        sources = [
            torch.empty(1, *shape, device="meta", requires_grad=moves)
            for shape, moves in zip(shapes, pulled, strict=True)
        ]
        prediction = predictor(*sources)
        moved = [source for source, moves in zip(sources, pulled, strict=True) if moves]
        if moved:
            error = torch.empty(prediction.shape, dtype=prediction.dtype, device="meta")
            torch.autograd.grad(prediction, moved, error, allow_unused=True)
    operations: int = counter.operations
    return operations // 2


_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations by torch's own formulas.

    torch's counter, `FlopCounterMode`, cannot be used around `torch.autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports torch._dynamo to skip it: as long as all its other imports

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS and args[-1].is_meta:  # which torch's stand-ins import as much for
            left, right = args[-2:]
            result = torch.empty(len(left), right.shape[1], dtype=right.dtype, device="meta")
        else:
            result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=result)
        return result
