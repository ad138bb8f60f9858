"""The predictor that `auto` stands for, by the layouts of the two states."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from pcgraph.graph import INPUT, Node
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d, UpsampledConvTranspose3d
from pcgraph.spec.layout import Layout, Shape

MOST_WEIGHTS = 2**28
"""Weights of the largest dense layer that is built where nobody wrote its size: 1 GiB of float32."""

_POOLS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_CONVOLUTIONS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class NoPredictorError(Exception):
    """Why there is no predictor to be built, and what to write instead."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class ToMap(nn.Module):
    """Reads a state of shape (batch, *shape) as a map (batch, channels, *grid)."""

    def __init__(self, shape: Shape, layout: Layout) -> None:
        super().__init__()
        self.tokens = _tokens(shape, layout)
        self.before, self.count = layout.before, shape[self.tokens] - layout.before - layout.after
        self.parts, self.order = layout.parts, _order(layout)
        self.map = (layout.width, *layout.grid)

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange the state; class tokens are left out."""
        places = x.narrow(1 + self.tokens, self.before, self.count)
        places = places.reshape(len(x), *self.parts)
        return places.permute(self.order).reshape(len(x), *self.map)


class FromMap(nn.Module):
    """Gives a map (batch, channels, *grid) the layout of a state of shape (batch, *shape); undoes `ToMap`."""

    def __init__(self, shape: Shape, layout: Layout) -> None:
        super().__init__()
        self.tokens = _tokens(shape, layout)
        self.shape = tuple(
            size - (layout.before + layout.after) * (place == self.tokens) for place, size in enumerate(shape)
        )
        self.order = _order(layout)
        self.parts = tuple(layout.parts[place - 1] for place in self.order[1:])
        self.back = tuple(self.order.index(place) for place in range(len(self.order)))
        self.around = (layout.before, layout.after)

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange the map; class tokens are predicted by the mean of the others."""
        places = x.reshape(len(x), *self.parts).permute(self.back).reshape(len(x), *self.shape)
        if not any(self.around):
            return places
        along = 1 + self.tokens
        mean = places.mean(dim=along, keepdim=True)
        size = list(mean.shape)
        around = []
        for count in self.around:
            size[along] = count
            around.append(mean.expand(size))
        return torch.cat([around[0], places, around[1]], dim=along)


def _order(layout: Layout) -> tuple[int, ...]:
    """Where the dimensions of (batch, channels, *grid) stand in (batch, *parts)."""
    channels = () if layout.channels is None else (layout.channels,)
    parts = (*channels, *(part for axis in layout.parts_of_axes for part in axis))
    return 0, *(1 + part for part in parts)


def _tokens(shape: Shape, layout: Layout) -> int:
    """The first dimension of the state that goes over places."""
    return 1 if layout.channels == 0 and len(shape) > 1 else 0


def automatic(source: Node, target: Node) -> nn.Module:
    """The predictor that ``auto`` stands for.

    From a vector, or a grid of one place that fits no other, a linear layer. Between states with a grid
    (maps, sequences, volumes, tokens; channels first or last): linear, bilinear or trilinear resizing to the
    target's grid, then a transposed convolution with a kernel of 3, the default of the Predify package.
    Between the same tokens: a linear layer for each. From a grid to a vector: the mean over the grid, then a
    linear layer.

    Raises:
        NoPredictorError: A layout is needed and not known, the grids do not fit, or the linear layer would
            be too large.
    """
    to_vector = target.layout is not None and not target.layout.grid
    one = _layout(source)
    if not one.grid or (len(source.shape) == 1 and to_vector):
        return _dense(source.shape, target.shape)
    if to_vector:
        return _mean(source.shape, one, target.shape[0])
    other = _layout(target)
    if math.prod(one.grid) == 1 and len(one.grid) != len(other.grid):  # a mean over all places is a vector
        return _dense(source.shape, target.shape)
    if _same_rows(source, target):
        return nn.Linear(one.width, other.width)
    if not (one.ordered and other.ordered and len(one.grid) == len(other.grid) <= 3):
        what = [f"'{node.name}' {_places(layout)}" for node, layout in ((source, one), (target, other))]
        raise NoPredictorError(
            f"'auto' cannot predict {what[1]} from {what[0]}",
            "Write a list of layers, or a 'python:' predictor, that says which place belongs to which.",
        )
    return _convolution(source.shape, one, target.shape, other)


def _layout(node: Node) -> Layout:
    if node.layout is not None:
        return node.layout
    ways = (
        "channels_first, channels_last or tokens"
        if len(node.shape) == 2
        else "channels_first or channels_last"
    )
    place = f"module: {node.module}" if node.module else f"shape: {list(node.shape)}"
    hint = (
        f"Say it in the node, {node.name}: {{{place}, layout: ...}}, {ways}; or write the predictor's layers."
    )
    silent = "nothing says" if node.module is None else "the model's operations do not say"
    raise NoPredictorError(
        f"'auto' needs to know which dimensions of '{node.name}' {node.shape} are channels and which are "
        f"places, and {silent} it",
        "Write the predictor's layers." if node.name == INPUT else hint,
    )


def _places(layout: Layout) -> str:
    if not layout.ordered:
        return f"of {layout.grid[0]} rows in no order"
    return f"of a grid {' x '.join(map(str, layout.grid))}"


def _dense(source: Shape, target: Shape) -> nn.Module:
    check_dense(math.prod(source), math.prod(target))
    flat = [] if len(source) == 1 else [nn.Flatten()]
    linear = nn.Linear(math.prod(source), math.prod(target))
    return nn.Sequential(*flat, linear, *([] if len(target) == 1 else [nn.Unflatten(1, target)]))


def check_dense(inputs: int, outputs: int) -> None:
    """Refuse a dense layer of a size that nobody wrote, where it would need gigabytes.

    Raises:
        NoPredictorError: It has more than `MOST_WEIGHTS`.
    """
    if inputs * outputs > MOST_WEIGHTS:
        size = 4 * inputs * outputs / 2**30
        raise NoPredictorError(
            f"a linear layer of {inputs} x {outputs} weights would need {size:.1f} GiB",
            "Predict a smaller state, or write layers with fewer weights, for example "
            "[{Linear: {out_features: 64}}, {Linear: {out_features: ...}}, Unflatten].",
        )


def _mean(source: Shape, layout: Layout, features: int) -> nn.Module:
    count = len(layout.grid)
    if count not in _POOLS:
        raise NoPredictorError(
            f"'auto' cannot take the mean over {count} axes", "Write a 'python:' predictor."
        )
    linear = nn.Linear(layout.width, features)
    return nn.Sequential(ToMap(source, layout), _POOLS[count](1), nn.Flatten(), linear)


def _same_rows(source: Node, target: Node) -> bool:
    """Whether both are tokens, features last, of the same places."""
    one, other = source.layout, target.layout
    assert one is not None
    assert other is not None
    tokens = all(len(node.shape) == 2 for node in (source, target))
    last = one.channels == len(one.parts) - 1 and other.channels == len(other.parts) - 1
    alike = replace(one, parts=(*one.parts[:-1], other.width)) == other
    return tokens and last and alike


def _convolution(source: Shape, one: Layout, target: Shape, other: Layout) -> nn.Module:
    count = len(one.grid)
    steps: list[nn.Module] = [] if _is_plain(source, one) else [ToMap(source, one)]
    convolution = _CONVOLUTIONS[count](one.width, other.width, 3, padding=1)
    if one.grid == other.grid:
        steps.append(convolution)
    else:
        upsample = nn.Upsample(size=other.grid, mode=_MODES[count], align_corners=False)
        if _is_plain(source, one) and _is_plain(target, other):
            if isinstance(convolution, nn.ConvTranspose2d):
                return UpsampledConvTranspose2d(upsample, convolution, (one.grid[0], one.grid[1]))
            if isinstance(convolution, nn.ConvTranspose3d):
                return UpsampledConvTranspose3d(
                    upsample, convolution, (one.grid[0], one.grid[1], one.grid[2])
                )
        steps += [upsample, convolution]
    return nn.Sequential(*steps, *([] if _is_plain(target, other) else [FromMap(target, other)]))


def _is_plain(shape: Shape, layout: Layout) -> bool:
    """Whether a state is a map already: channels first, and each axis of the grid a dimension."""
    return layout.channels == 0 and layout.parts == shape and layout.axes is None
