"""What a run does by itself where it is long enough to gain from it, and nothing has to be measured."""

from __future__ import annotations

import torch
from torch import nn

from pcgraph.network import PCNetwork
from pcgraph.predictors.fast.tiled_run import Budget, has_large_kernel, in_tiles
from pcgraph.state import State

LONG = 4
"""Steps from which on it is worth to lay out the states anew."""


def tiled_predictors(network: PCNetwork, steps: int) -> dict[str, nn.Module]:
    """By edge, the predictors whose large kernels a run of so many steps had better compute in tiles."""
    large = [name for name, predictor in network.predictors.items() if has_large_kernel(predictor)]
    if not large or not _is_usual(network):
        return {}
    budget, edges = Budget(steps), network.graph.edges
    tiled = {name: in_tiles(network.predictors[name], budget) for name in large if not edges[name].is_foreign}
    return {name: predictor for name, predictor in tiled.items() if predictor is not None}


def gains_channels_last(network: PCNetwork, steps: int, state: State) -> bool:
    """Whether a run of so many steps is faster with its maps channels-last, which nobody has laid out yet."""
    drive, edges = network.drive, network.graph.edges.values()
    if drive is None or steps < LONG or not drive.is_depthwise or not _is_usual(network):
        return False
    in_rows = all(value.is_contiguous() for value in state.values.values())
    return in_rows and not any(edge.is_foreign for edge in edges)


def _is_usual(network: PCNetwork) -> bool:
    """Whether it is computed in float32 on a processor, where it is known what gains."""
    autocast = torch.is_autocast_enabled("cpu")
    return network.device.type == "cpu" and network.dtype == torch.float32 and not autocast
