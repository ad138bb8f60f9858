"""As many threads as the size of the work is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from pcgraph.network import PCNetwork

SMALL = 2**26
"""Multiplications of one layer for a batch. Up to here (about a millisecond of one core) further threads gain
little, and wait for each other at every operation where their cores are not free."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch's operations; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fitting_threads(network: PCNetwork) -> Callable[[int], AbstractContextManager[None]]:
    """From images a batch to the threads for it: one where every layer is small; else as many as there are.

    Layers of a backbone are not looked at: with one, nothing is changed.
    """
    most = None if network.drive is not None else largest_layer(network)

    def fitting(images: int) -> AbstractContextManager[None]:
        return nullcontext() if most is None or images * most > SMALL else threads(1)

    return fitting


def largest_layer(network: PCNetwork) -> int:
    """Multiplications of the largest layer of any predictor for one image; rather too many than too few."""
    return max(
        (
            _multiplications(
                weight, network.graph.nodes[source].shape, network.graph.nodes[edge.target].shape
            )
            for name, edge in network.graph.edges.items()
            if edge.predictor is not None
            for weight in network.predictors[name].parameters()
            for source in edge.sources
        ),
        default=0,
    )


def _multiplications(weight: Tensor, source: tuple[int, ...], target: tuple[int, ...]) -> int:
    """At how many places a weight is used, times its numbers: of a map at each, of tokens for each."""
    if weight.dim() > 2:
        return weight.numel() * max(math.prod(source[1:]), math.prod(target[1:]))
    return weight.numel() * max(1, math.prod(target) // len(weight)) if weight.dim() == 2 else weight.numel()
