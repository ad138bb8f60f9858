"""What the errors of the predictors carry back to the states that predict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcgraph.dynamics.amplification import pull, stretch
from pcgraph.dynamics.automatic import Carried
from pcgraph.graph import PCGraph
from pcgraph.predictors.reach import POINTWISE, without_last_activations

PART = 12
"""Side of the part of a map by which convolutions are judged: their norm is that of the whole, nearly."""


def measure_carried(
    graph: PCGraph, predictors: nn.ModuleDict, start: Mapping[str, Tensor] | None = None
) -> dict[tuple[str, str], Carried]:
    """What each edge that reads states of before the step carries back, by edge and source.

    Activations at the end of a predictor are left out: units that are off now may be on later. Others count
    as they are at the states.

    Args:
        graph: The graph.
        predictors: Its edges' functions, with their weights.
        start: The states at step 0, (batch, *shape) by node. Left out: standard normal states, and no pull.
    """
    states = start or _normal_states(graph, predictors)
    found = {}
    for name, predictor in predictors.items():
        edge = graph.edges[name]
        linear = without_last_activations(predictor)
        crowd = sum(len(member.sources) for member in graph.terms[edge.bundle])
        for index, node in enumerate(edge.sources if edge.delay else ()):
            sources = [states[source].clone() for source in edge.sources]
            pulled = pull(predictor, sources, states[edge.target], index) if start else 0.0
            found[name, node] = Carried(crowd * stretch(linear, _parts(linear, sources), index), pulled)
    return found


def _parts(predictor: nn.Module, sources: list[Tensor]) -> list[Tensor]:
    """The sources, or where the predictor takes maps of any size no more than a part of them."""
    anywhere = (nn.Sequential, nn.Conv2d, nn.ConvTranspose2d, *POINTWISE)
    if not all(isinstance(part, anywhere) for part in predictor.modules()):
        return sources
    return [source[..., :PART, :PART] for source in sources]


def _normal_states(graph: PCGraph, predictors: nn.ModuleDict) -> dict[str, Tensor]:
    like = next((p for p in predictors.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(1, *node.shape, generator=generator).to(like) for name, node in graph.nodes.items()
    }
