"""What the errors of the predictors carry back to the states that predict."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from pcgraph.dynamics.amplification import pull, stretch
from pcgraph.dynamics.automatic import Carried
from pcgraph.graph import PCGraph
from pcgraph.predictors.bounds import linear_stretch, stretch_bound
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d, UpsampledConvTranspose3d
from pcgraph.predictors.reach import POINTWISE, without_last_activations

UPSAMPLED = (UpsampledConvTranspose2d, UpsampledConvTranspose3d)
PART = 12
"""Side of the part of a map by which convolutions are judged: their norm is that of the whole, nearly."""


def measure_carried(
    graph: PCGraph,
    predictors: nn.ModuleDict,
    start: Mapping[str, Tensor] | None = None,
    only: Collection[str] | None = None,
) -> dict[tuple[str, str], Carried]:
    """What each edge that reads states of before the step carries back, by edge and source.

    Activations at the end of a predictor are left out: units that are off now may be on later. Others count
    as they are at the states.

    Args:
        graph: The graph.
        predictors: Its edges' functions, with their weights.
        start: The states at step 0, (batch, *shape) by node. Left out: standard normal states, and no pull.
        only: These edges; left out, all.
    """
    states = start or _normal_states(graph, predictors)
    found = {}
    for name in predictors if only is None else only:
        predictor = predictors[name]
        edge = graph.edges[name]
        linear = without_last_activations(predictor)
        crowd = _crowd(graph, name)
        for index, node in enumerate(edge.sources if edge.delay else ()):
            sources = [states[source].clone() for source in edge.sources]
            pulled = pull(predictor, sources, states[edge.target], index) if start else 0.0
            stretched = linear_stretch(linear)
            if stretched is None:
                measured, given = _parts(linear, sources)
                if measured is linear and isinstance(predictor, UPSAMPLED):
                    measured = predictor  # by products, which its layers alone are not
                stretched = stretch(measured, given, index)
            found[name, node] = Carried(crowd * stretched, pulled)
    return found


def bound_carried(graph: PCGraph, predictors: nn.ModuleDict) -> dict[tuple[str, str], Carried]:
    """Like `measure_carried`, what the stretches cannot exceed: far more, but soon known."""
    found: dict[tuple[str, str], Carried] = {}
    for name, predictor in predictors.items():
        edge = graph.edges[name]
        bound = _crowd(graph, name) * stretch_bound(without_last_activations(predictor))
        found.update(((name, node), Carried(bound)) for node in (edge.sources if edge.delay else ()))
    return found


def _crowd(graph: PCGraph, edge: str) -> int:
    """Sources that share the error of an edge."""
    return sum(len(member.sources) for member in graph.terms[graph.edges[edge].bundle])


def _parts(predictor: nn.Module, sources: list[Tensor]) -> tuple[nn.Module, list[Tensor]]:
    """The predictor and its sources, or a part of these where it takes maps of any size."""
    first, *others = predictor if type(predictor) is nn.Sequential and len(predictor) else [predictor]
    anywhere = (nn.Sequential, nn.Conv2d, nn.ConvTranspose2d, *POINTWISE)
    if not all(isinstance(part, anywhere) for layer in others for part in layer.modules()):
        return predictor, sources
    parts = [source[..., :PART, :PART] for source in sources]
    if isinstance(first, nn.Upsample) and (factors := _factors(first, sources[0])):
        return nn.Sequential(nn.Upsample(scale_factor=factors, mode=first.mode), *others), parts
    if all(isinstance(part, anywhere) for part in first.modules()):
        return predictor, parts
    return predictor, sources


def _factors(upsample: nn.Upsample, source: Tensor) -> tuple[float, ...] | None:
    """By what a map is upsampled to a size, where that is a whole number on each side."""
    size = upsample.size
    if (
        source.ndim != 4
        or not isinstance(size, tuple)
        or upsample.mode != "bilinear"
        or upsample.align_corners
    ):
        return None
    pairs = list(zip(size, source.shape[2:], strict=True))
    return tuple(to / of for to, of in pairs) if not any(to % of for to, of in pairs) else None


def _normal_states(graph: PCGraph, predictors: nn.ModuleDict) -> dict[str, Tensor]:
    like = next((p for p in predictors.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(1, *node.shape, generator=generator).to(like) for name, node in graph.nodes.items()
    }
