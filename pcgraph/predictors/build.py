"""An edge's function, built from the spec and the shapes of the nodes that it joins."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pcgraph.errors import Fault, FieldPath, ModelError, SpecError
from pcgraph.graph import Edge, PCGraph
from pcgraph.predictors.fast.upsampling import UpsampledConvTranspose2d
from pcgraph.spec.layers import LAYERS, Layer
from pcgraph.spec.objects import import_object

Shape = tuple[int, ...]


def build_predictor(edge: Edge, graph: PCGraph, trust: bool = False) -> nn.Module:
    """Build the function of ``edge``: a module of the source states that predicts the target state.

    Args:
        edge: An edge with a predictor.
        graph: The graph that the edge belongs to, for the shapes.
        trust: Whether a ``python:`` predictor may be imported.

    Returns:
        A module called with one tensor a source, each of shape (batch, *source shape), that returns
        a tensor of shape (batch, *target shape).

    Raises:
        SpecError: A layer cannot be built, or the shapes do not fit.
    """
    sources = [graph.nodes[name].shape for name in edge.sources]
    target = graph.nodes[edge.target].shape
    path = (*edge.path, "predictor")
    if isinstance(edge.predictor, str) and edge.predictor != "auto":
        module = _imported(edge.predictor, sources, target, path, trust)
    else:
        source = sources[0] if len(sources) == 1 else _joined_shape(edge.sources, sources, edge.path)
        if edge.predictor == "auto":
            module = automatic(source, target)
        else:
            assert isinstance(edge.predictor, list)
            module = _from_layers(edge.predictor, source, target, path)
        if len(sources) > 1:
            module = Joined(module)
    _check_shape(module, edge, sources, target, path)
    return module


class Joined(nn.Module):
    """Several sources joined along their first dimension (after the batch), then one module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *sources: Tensor) -> Tensor:
        """Predict the target from the joined sources."""
        prediction: Tensor = self.module(torch.cat(sources, dim=1))
        return prediction


class ToMap(nn.Module):
    """Reads any state as a feature map (batch, channels, height, width)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layout = layout(shape)
        self.grid = _grid(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange the state; class tokens before a square grid of tokens are left out."""
        if self.layout == "map":
            return x
        if self.layout == "channels_last":
            return x.movedim(-1, 1)
        height, width = self.grid
        return x[:, -height * width :].movedim(-1, 1).reshape(len(x), -1, height, width)


class FromMap(nn.Module):
    """Gives a feature map (batch, channels, height, width) the layout of a state; undoes `ToMap`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.layout = layout(shape)
        self.extra = shape[0] - math.prod(_grid(shape)) if self.layout == "tokens" else 0

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange the map; a class token is predicted by the mean of the others."""
        if self.layout == "map":
            return x
        if self.layout == "channels_last":
            return x.movedim(1, -1)
        tokens = x.flatten(2).movedim(1, -1)
        if self.extra:
            summary = tokens.mean(dim=1, keepdim=True).expand(-1, self.extra, -1)
            tokens = torch.cat([summary, tokens], dim=1)
        return tokens


def layout(shape: Shape) -> str:
    """What a state of this shape is: ``vector``, ``tokens``, ``map``, ``channels_last`` or ``other``.

    Three dimensions are (channels, height, width), unless the first two alone are equal, as in the
    (height, width, channels) of Swin transformers.
    """
    if len(shape) == 3:
        return "channels_last" if shape[0] == shape[1] != shape[2] else "map"
    return {1: "vector", 2: "tokens"}.get(len(shape), "other")


def automatic(source: Shape, target: Shape) -> nn.Module:
    """The predictor that ``auto`` stands for.

    Between vectors a linear layer. Between anything with a grid (feature maps, channels-last maps,
    tokens): bilinear resizing to the target's grid, then a 3 x 3 transposed convolution, the default
    of the Predify package. From a grid to a vector: the mean over the grid, then a linear layer.
    Everything else: a linear layer on the flattened state.
    """
    kinds = layout(source), layout(target)
    gridded = {"map", "channels_last", "tokens"}
    if kinds == ("tokens", "tokens") and source[0] == target[0]:
        return nn.Linear(source[1], target[1])
    if kinds[0] in gridded and kinds[1] in gridded:
        steps: list[nn.Module] = [] if kinds[0] == "map" else [ToMap(source)]
        convolution = nn.ConvTranspose2d(_channels(source), _channels(target), 3, padding=1)
        if _grid(source) == _grid(target):
            steps.append(convolution)
        else:
            upsample = nn.Upsample(size=_grid(target), mode="bilinear", align_corners=False)
            if kinds == ("map", "map"):
                return UpsampledConvTranspose2d(upsample, convolution, _grid(source))
            steps += [upsample, convolution]
        return nn.Sequential(*steps, *([] if kinds[1] == "map" else [FromMap(target)]))
    if kinds[0] in gridded and kinds[1] == "vector":
        linear = nn.Linear(_channels(source), target[0])
        return nn.Sequential(ToMap(source), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    steps = [] if kinds[0] == "vector" else [nn.Flatten()]
    steps.append(nn.Linear(math.prod(source), math.prod(target)))
    return nn.Sequential(*steps, *([] if kinds[1] == "vector" else [nn.Unflatten(1, target)]))


def _channels(shape: Shape) -> int:
    return shape[0] if layout(shape) == "map" else shape[-1]


def _grid(shape: Shape) -> tuple[int, int]:
    """Height and width; tokens form a square if they can, a class token or two aside, else a row."""
    kind = layout(shape)
    if kind == "map":
        return shape[1], shape[2]
    if kind == "channels_last":
        return shape[0], shape[1]
    for extra in (0, 1, 2):
        side = math.isqrt(max(shape[0] - extra, 0))
        if side > 1 and side * side == shape[0] - extra:
            return side, side
    return shape[0], 1


def _joined_shape(names: Sequence[str], shapes: Sequence[Shape], path: FieldPath) -> Shape:
    if len({shape[1:] for shape in shapes}) > 1:
        given = ", ".join(f"'{name}' {shape}" for name, shape in zip(names, shapes, strict=True))
        raise SpecError(
            Fault(
                f"sources that predict together are joined along their first dimension, but {given}",
                (*path, "source"),
                "Make the other dimensions equal, or use a 'python:' predictor of several arguments.",
            )
        )
    return sum(shape[0] for shape in shapes), *shapes[0][1:]


def _imported(
    reference: str, sources: Sequence[Shape], target: Shape, path: FieldPath, trust: bool
) -> nn.Module:
    try:
        found: Any = import_object(reference, trust=trust)
    except ModelError as error:
        raise SpecError(replace(fault, path=path) for fault in error.faults) from None
    # a module stays its owner's; the network's own copy may be moved and trained
    found = copy.deepcopy(found) if isinstance(found, nn.Module) else found(*sources, target)
    if not isinstance(found, nn.Module):
        raise SpecError(
            Fault(
                f"'{reference}' gave {type(found).__name__}, not a torch.nn.Module",
                path,
                "Name a module, or a function of the source shape(s) and the target shape that makes one.",
            )
        )
    return found


def _from_layers(layers: Sequence[Layer], source: Shape, target: Shape, path: FieldPath) -> nn.Module:
    """Build the layers one after the other, sizes left out worked out on the way (on no data)."""
    shape = source
    built: list[nn.Module] = []
    last_sized = max((i for i, layer in enumerate(layers) if _output_size(layer.name)), default=-1)
    for index, layer in enumerate(layers):
        where = (*path, index)
        arguments = {name: tuple(v) if isinstance(v, list) else v for name, v in layer.arguments.items()}
        unflattens = any(later.name == "Unflatten" for later in layers[index:])
        _fill_sizes(layer.name, arguments, shape, target, index == last_sized, unflattens, where)
        _check_complete(layer.name, arguments, where)
        try:
            module: nn.Module = getattr(nn, layer.name)(**arguments)
            shape = _shape_after(module, [shape])
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise SpecError(
                Fault(f"{layer.name} does not fit states of shape {shape}: {reason}", where)
            ) from None
        built.append(module)
    return built[0] if len(built) == 1 else nn.Sequential(*built)


def _output_size(name: str) -> str | None:
    if name == "Linear":
        return "out_features"
    return "out_channels" if name.startswith("Conv") else None


def _check_complete(name: str, arguments: dict[str, Any], path: FieldPath) -> None:
    for parameter in inspect.signature(getattr(nn, name).__init__).parameters.values():
        needed = parameter.default is inspect.Parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        if needed and parameter.name in LAYERS[name] and parameter.name not in arguments:
            raise SpecError(
                Fault(
                    f"{name} needs '{parameter.name}'", path, f"Write {{{name}: {{{parameter.name}: ...}}}}."
                )
            )


def _fill_sizes(
    name: str,
    arguments: dict[str, Any],
    shape: Shape,
    target: Shape,
    is_last: bool,
    unflattens: bool,
    path: FieldPath,
) -> None:
    """Set the sizes that the spec leaves out, from the running shape and the target's."""
    size = _output_size(name)
    if size and size not in arguments:
        if not is_last:
            raise SpecError(
                Fault(
                    f"{name} needs '{size}'; it is worked out for the last layer only",
                    path,
                    f"Write {{{name}: {{{size}: ...}}}}.",
                )
            )
        arguments[size] = math.prod(target) if unflattens else target[-1 if name == "Linear" else 0]
    if name == "Linear":
        arguments.setdefault("in_features", shape[-1])
    elif name.startswith("Conv"):
        arguments.setdefault("in_channels", shape[0])
    elif name.startswith("BatchNorm"):
        arguments.setdefault("num_features", shape[0])
    elif name == "GroupNorm":
        arguments.setdefault("num_channels", shape[0])
    elif name == "LayerNorm":
        arguments.setdefault("normalized_shape", shape)
    elif name == "AdaptiveAvgPool2d":
        arguments.setdefault("output_size", target[-2:] if len(target) >= 2 else 1)
    elif name == "Upsample" and "scale_factor" not in arguments:
        arguments.setdefault("size", target[1:])
    elif name == "Unflatten":
        arguments.setdefault("dim", 1)
        arguments.setdefault("unflattened_size", target)


def _check_shape(
    module: nn.Module, edge: Edge, sources: Sequence[Shape], target: Shape, path: FieldPath
) -> None:
    try:
        predicted = _shape_after(module, sources)
    except Exception as error:  # a foreign predictor may raise anything
        given = ", ".join(f"'{name}' {shape}" for name, shape in zip(edge.sources, sources, strict=True))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(Fault(f"the predictor does not take states {given}: {reason}", path)) from None
    if predicted != target:
        hint = ""
        if math.prod(predicted) == math.prod(target):
            hint = "End the predictor with 'Unflatten'." if len(predicted) == 1 else "Add 'Flatten'."
        raise SpecError(
            Fault(
                f"edge '{edge.name}' predicts shape {predicted}, but node '{edge.target}' has shape {target}",
                path,
                hint,
            )
        )


def _shape_after(module: nn.Module, sources: Sequence[Shape]) -> Shape:
    """Shape that ``module`` makes of the sources, without the batch and without computing."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        training = module.training
        module.eval()
        try:
            predicted = module(*(torch.empty(2, *shape) for shape in sources))
        finally:
            module.train(training)
    if not isinstance(predicted, Tensor):
        raise TypeError(f"it returns {type(predicted).__name__}, not a tensor")
    if predicted.shape[:1] != (2,):
        raise ValueError(f"it makes shape {tuple(predicted.shape)} of a batch of 2")
    return tuple(predicted.shape[1:])
