"""C of gradient `normalized`: how many predicted units depend on one unit of the source."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcgraph.predictors.automatic import FromMap, ToMap
from pcgraph.predictors.build import Joined
from pcgraph.predictors.fast.plain import is_plain
from pcgraph.predictors.masks import Masked
from pcgraph.spec.layout import Shape

# Layers whose result at a unit depends on that unit alone.
POINTWISE = (
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.Mish,
    nn.PReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
)


def count_reach(predictor: nn.Module, sources: Sequence[Shape], index: int = 0) -> int:
    """How many predicted units depend on the central unit of source ``index``: C of ``normalized``.

    Activations at the end hide no unit. So the count is exact for a predictor that is linear up to
    its last activation; with activations inside, the units count whose derivative for the central
    unit is not zero at one of four fixed random states.

    Args:
        predictor: Module of one tensor a source.
        sources: Shapes of the sources, without the batch.
        index: Which source is moved.
    """
    linear = without_last_activations(predictor)
    if type(linear) is nn.Sequential and len(linear) == 1:
        linear = linear[0]
    if type(linear) is nn.Linear and is_plain(linear) and len(sources[index]) == 1:
        return max(1, int(linear.weight[:, sources[index][0] // 2].count_nonzero()))
    probe = without_last_activations(copy.deepcopy(predictor)).cpu().eval().requires_grad_(False)
    central = tuple(size // 2 for size in sources[index])
    with torch.no_grad():
        reached = (_linear_probe if _is_linear(probe) else _derivative_probe)(probe, sources, index, central)
    return max(1, int(reached.sum()))


def _linear_probe(probe: nn.Module, sources: Sequence[Shape], index: int, central: Shape) -> Tensor:
    """Without its constants, a linear predictor of the one unit is zero where nothing depends on it."""
    for part in probe.modules():
        for constant in ("bias", "running_mean"):
            if isinstance(getattr(part, constant, None), Tensor):
                getattr(part, constant).zero_()
    states = [torch.zeros(1, *shape) for shape in sources]
    states[index][(0, *central)] = 1.0
    first = probe[0] if isinstance(probe, nn.Sequential) else probe
    convolution = probe[1] if isinstance(first, nn.Upsample) and isinstance(probe, nn.Sequential) else first
    if isinstance(convolution, nn.modules.conv._ConvTransposeNd) and convolution.groups == 1:
        # the other channels are zero: leaving them out saves nearly all the work
        convolution.weight.data = convolution.weight[central[0] : central[0] + 1]
        if isinstance(convolution, Masked):
            convolution.mask = convolution.mask[central[0] : central[0] + 1]
        states[index] = states[index][:, central[0] : central[0] + 1]
    predicted: Tensor = probe.float()(*states)
    return predicted != 0


def _derivative_probe(probe: nn.Module, sources: Sequence[Shape], index: int, central: Shape) -> Tensor:
    probe = probe.double()
    generator = torch.Generator().manual_seed(0)
    tangent = torch.zeros(1, *sources[index], dtype=torch.float64)
    tangent[(0, *central)] = 1.0
    reached = torch.tensor(False)
    for _ in range(4):
        states = [torch.randn(1, *shape, dtype=torch.float64, generator=generator) for shape in sources]

        def along(moved: Tensor, states: list[Tensor] = states) -> Tensor:
            predicted: Tensor = probe(*states[:index], moved, *states[index + 1 :])
            return predicted

        with warnings.catch_warnings():  # torch's own, from what its forward mode imports
            warnings.simplefilter("ignore", FutureWarning)
            slope = torch.func.jvp(along, (states[index],), (tangent,))[1]
        reached = reached | (slope != 0)
    return reached


def without_last_activations(module: nn.Module) -> nn.Module:
    """The module up to its last layer that is no activation; it shares the layers."""
    if isinstance(module, Joined):
        return Joined(without_last_activations(module.module))
    if isinstance(module, POINTWISE):
        return nn.Identity()
    if isinstance(module, nn.Sequential) and len(module):
        *others, last = module
        stripped = without_last_activations(last)
        if isinstance(stripped, nn.Identity):
            return without_last_activations(nn.Sequential(*others))
        return nn.Sequential(*others, stripped)
    return module


def _is_linear(module: nn.Module) -> bool:
    known = (
        nn.Linear,
        nn.modules.conv._ConvNd,
        nn.modules.batchnorm._BatchNorm,
        nn.Upsample,
        nn.AdaptiveAvgPool1d,
        nn.AdaptiveAvgPool2d,
        nn.AdaptiveAvgPool3d,
        nn.AvgPool1d,
        nn.AvgPool2d,
        nn.AvgPool3d,
        nn.Flatten,
        nn.Unflatten,
        nn.Identity,
        nn.Dropout,
        nn.Sequential,
        Joined,
        ToMap,
        FromMap,
    )
    return all(isinstance(part, known) for part in module.modules())
