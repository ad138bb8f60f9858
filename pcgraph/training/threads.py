"""As many threads as the size of the work is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def fitting_threads(network: PCNetwork, images: int) -> Iterator[None]:
    """One thread for torch where every layer is small for such a batch; else as many as there are.

    Layers of a backbone are not looked at: with one, nothing is changed.
    """
    if network.drive is not None or images * largest_layer(network) > SMALL:
        yield
        return
    with threads(1):
        yield


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
