"""Whether a network fits into this machine's memory, asked before any of it is made."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from pcgraph.errors import Fault, FieldPath, SpecError
from pcgraph.graph import Edge, PCGraph
from pcgraph.predictors.build import build_predictor
from pcgraph.predictors.size_limits import check_room

NARROW = (
    "Write narrower layers, for example [{Linear: {out_features: 64}}, Linear], or make the nodes smaller."
)


def check_size(graph: PCGraph) -> list[Fault]:
    """Refuse a network whose weights, with the states of one input, need more than the machine's memory.

    Predictors of one kind are measured once, without storage. What foreign code makes (``python:``) is not
    known before it is made.

    Returns:
        What else is wrong with predictors.

    Raises:
        SpecError: It needs more; at its largest predictor, or at the nodes.
    """
    states = sum(4 * math.prod(node.shape) for node in graph.nodes.values())
    check_room(states, "the states of one input", ("nodes",), "Make the nodes smaller.")
    known: dict[str, int] = {}
    total, largest = states, 0
    path: FieldPath = ("nodes",)
    faults: list[Fault] = []
    for edge in (*graph.edges.values(), *graph.starts.values()):
        try:
            size = _weights(edge, graph, known)
        except SpecError as error:
            faults += error.faults
            continue
        total += size
        if size > largest:
            largest, path = size, (*edge.path, "predictor")
    check_room(total, "the weights of this network and the states of one input", path, NARROW)
    return faults


def _weights(edge: Edge, graph: PCGraph, known: dict[str, int]) -> int:
    """Bytes of a predictor's weights, with its mask; 0 where there is none to be measured."""
    if edge.predictor is None or edge.is_foreign:
        return 0
    nodes = [graph.nodes[name] for name in (*edge.sources, edge.target)]
    kind = repr((edge.predictor, edge.mask is not None, [(node.shape, node.layout) for node in nodes]))
    if kind not in known:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _Undrawn():
            module = build_predictor(edge, graph, trust=False)
        held = sum(part.nbytes for part in (*module.parameters(), *module.buffers()))
        known[kind] = held * (1 if edge.mask is None else 2)
    return known[kind]


class _Undrawn(TorchFunctionMode):
    """First weights are not drawn, which takes longer than all else where there is no storage."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
