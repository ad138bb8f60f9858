"""What a step costs: multiply-adds and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.memory import MemoryMeter
from pcgraph.simulation.plan import Plan
from pcgraph.spec.layout import Shape
from pcgraph.state import State


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


def step_memory(network: PCNetwork) -> int | None:
    """Bytes that one step for one image takes at once: next states, predictions, errors, and what they need.

    Neither the weights nor the states that it starts from are counted. On tensors without storage; as after
    `step_cost`, the network is of no other use afterwards.

    Returns:
        None where the model or a predictor needs real numbers.
    """
    try:
        scheduler = Scheduler(network.to("meta"))
        state = _meta_state(scheduler)
        with MemoryMeter() as meter:
            scheduler.step(state)
    except Exception:  # whatever a foreign module raises on tensors without values
        return None
    peak: int = meter.peak
    return peak


def _meta_state(scheduler: Scheduler) -> State:
    network = scheduler.network
    receiver = network.graph.nodes[network.graph.receiver]
    return scheduler.start(torch.empty(1, *receiver.shape, device="meta"))


def cost_of_one_step(network: PCNetwork) -> int:
    """Of a network on the ``meta`` device, by making a step."""
    scheduler = Scheduler(network)
    state = _meta_state(scheduler)
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
