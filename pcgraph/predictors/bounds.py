"""How strongly a predictor can carry errors back, from its weights alone."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import torch
from torch import nn

from pcgraph.predictors.fast.plain import is_plain

SMALL = 2**14
"""Weights of a linear layer whose singular values are computed."""
_CALM = (
    nn.Flatten,
    nn.Hardtanh,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
    nn.Unflatten,
)
"""Layers that make no change larger."""


def linear_stretch(predictor: nn.Module) -> float | None:
    """The largest eigenvalue of ``J^T J`` of a small linear layer; None of what is something else."""
    if type(predictor) is nn.Sequential and len(predictor) == 1:
        predictor = predictor[0]
    if type(predictor) is not nn.Linear or not is_plain(predictor) or predictor.weight.numel() > SMALL:
        return None
    return float(torch.linalg.matrix_norm(predictor.weight.detach(), 2)) ** 2


def stretch_bound(predictor: nn.Module) -> float:
    """What the largest eigenvalue of ``J^T J`` cannot exceed at any state; infinite where that is not known.

    Each unit of a convolution is the sum of what the taps bring it, so its norm is at most that of the taps'
    Frobenius norms added up; with a stride the taps of each phase make units of their own.
    """
    if type(predictor) is nn.Sequential:
        return math.prod(stretch_bound(part) for part in predictor) if is_plain(predictor) else math.inf
    if not is_plain(predictor) or not type(predictor).__module__.startswith(("torch.nn.", "pcgraph.")):
        return math.inf
    if isinstance(predictor, _CALM):
        return 1.0
    if isinstance(predictor, nn.Linear):
        return float(predictor.weight.detach().norm()) ** 2
    if isinstance(predictor, nn.modules.conv._ConvNd) and predictor.padding_mode == "zeros":
        return _bound_of_taps(predictor)
    return math.inf


def _bound_of_taps(layer: nn.modules.conv._ConvNd) -> float:
    taps = layer.weight.detach().flatten(0, 1).norm(dim=0).flatten()
    sums: Counter[tuple[int, ...]] = Counter()
    for place, tap in zip(itertools.product(*map(range, layer.kernel_size)), taps.tolist(), strict=True):
        along = zip(place, layer.dilation, layer.stride, strict=True)
        sums[tuple(at * dilation % stride for at, dilation, stride in along)] += tap
    return sum(total**2 for total in sums.values())
