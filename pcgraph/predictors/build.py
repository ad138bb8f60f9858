"""An edge's function, built from the spec and the shapes of the nodes that it joins."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pcgraph.display.interruptions import uninterrupted
from pcgraph.display.logs import without_log
from pcgraph.errors import Fault, FieldPath, ModelError, SpecError
from pcgraph.graph import Edge, Node, PCGraph
from pcgraph.predictors.automatic import NoPredictorError, automatic, check_dense
from pcgraph.predictors.size_limits import check_room
from pcgraph.spec.layers import LAYERS, Layer
from pcgraph.spec.layout import Layout, Shape
from pcgraph.spec.objects import import_object


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
    nodes = [graph.nodes[name] for name in edge.sources]
    sources = [node.shape for node in nodes]
    target = graph.nodes[edge.target].shape
    path = (*edge.path, "predictor")
    if isinstance(edge.predictor, str) and edge.predictor != "auto":
        module = _imported(edge.predictor, sources, target, path, trust)
        predicted = _predicted(module, edge, sources, path)
    else:
        source = nodes[0] if len(nodes) == 1 else _joined(nodes, edge)
        try:
            if edge.predictor == "auto":
                module = without_constants(automatic(source, graph.nodes[edge.target]))
                predicted = _predicted_by_auto(_bare(source), _bare(graph.nodes[edge.target]))
            else:
                assert isinstance(edge.predictor, list)
                module, predicted = _from_layers(edge.predictor, source.shape, target, path)
        except NoPredictorError as reason:
            where = edge.path if edge.predictor == "auto" else path
            raise SpecError(Fault(f"edge '{edge.name}': {reason}", where, reason.hint)) from None
        if len(sources) > 1:
            module = Joined(module)
    if predicted != target:
        raise SpecError(_wrong_shape(edge, predicted, target, path))
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


def without_constants(module: nn.Module) -> nn.Module:
    """The module with biases of zero, so that before any training small states are predicted small.

    Random biases would be predicted whatever the source is: thousands of times what the deep states of some
    networks are.
    """
    for part in module.modules():
        if isinstance(bias := getattr(part, "bias", None), nn.Parameter):
            nn.init.zeros_(bias)
    return module


def _joined(nodes: Sequence[Node], edge: Edge) -> Node:
    """Several sources as the one state that they are along their first dimension."""
    given = ", ".join(f"'{node.name}' {node.shape}" for node in nodes)
    if len({node.shape[1:] for node in nodes}) > 1:
        raise SpecError(
            Fault(
                f"sources that predict together are joined along their first dimension, but {given}",
                (*edge.path, "source"),
                "Make the other dimensions equal, or use a 'python:' predictor of several arguments.",
            )
        )
    shape = sum(node.shape[0] for node in nodes), *nodes[0].shape[1:]
    channels_first = all(node.layout == Layout(node.shape, 0) for node in nodes)
    return Node("+".join(edge.sources), shape, layout=Layout(shape, 0) if channels_first else None)


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


def _from_layers(
    layers: Sequence[Layer], source: Shape, target: Shape, path: FieldPath
) -> tuple[nn.Module, Shape]:
    """Build the layers one after the other, sizes left out worked out on the way (on no data).

    Returns:
        The module, and the shape that it predicts.
    """
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
            after, size = _measured(layer.name, tuple(arguments.items()), shape)
        except (TypeError, ValueError, ArithmeticError, RuntimeError, IndexError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise SpecError(
                Fault(f"{layer.name} does not fit states of shape {shape}: {reason}", where)
            ) from None
        check_room(size, f"the weights of {layer.name}", where)
        check_room(4 * math.prod(after), f"what {layer.name} makes, {after},", where)
        built.append(getattr(nn, layer.name)(**arguments))
        shape = after
    return (built[0] if len(built) == 1 else nn.Sequential(*built)), shape


@lru_cache(maxsize=4096)
def _measured(name: str, arguments: tuple[tuple[str, Any], ...], shape: Shape) -> tuple[Shape, int]:
    """Of a layer of `torch.nn` without storage: the shape that it makes of states, and its size in bytes."""
    with torch.device("meta"), torch.no_grad():
        module: nn.Module = getattr(nn, name)(**dict(arguments)).eval()
        if isinstance(module, nn.Linear):
            after = _after_linear(module, shape)
        else:
            after = _shape_of(module(torch.empty(2, *shape)))
    held = sum(part.nbytes for part in (*module.parameters(), *module.buffers()))
    return after, held


def _after_linear(module: nn.Linear, shape: Shape) -> Shape:
    """Known without torch, which imports torch._dynamo to say it: as long as all its other imports."""
    if shape[-1] != module.in_features:
        raise ValueError(f"it takes {module.in_features} features")
    return (*shape[:-1], module.out_features)


@lru_cache(maxsize=4096)
def _predicted_by_auto(source: Node, target: Node) -> Shape:
    """What ``auto`` predicts, computed once for all edges between such nodes."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("meta"):
        predictor = automatic(source, target).eval()
        return _shape_of(predictor(torch.empty(2, *source.shape)))


def _bare(node: Node) -> Node:
    return replace(node, name="", module=None)


def _output_size(name: str) -> str | None:
    if name == "Linear":
        return "out_features"
    return "out_channels" if name.startswith("Conv") else None


def _check_complete(name: str, arguments: dict[str, Any], path: FieldPath) -> None:
    for needed in _needed(name):
        if needed not in arguments:
            raise SpecError(Fault(f"{name} needs '{needed}'", path, f"Write {{{name}: {{{needed}: ...}}}}."))


@lru_cache
def _needed(name: str) -> list[str]:
    """The arguments that a layer has no default for."""
    parameters = inspect.signature(getattr(nn, name).__init__).parameters.values()
    return [one.name for one in parameters if one.default is one.empty and one.name in LAYERS[name]]


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
            check_dense(arguments.get("in_features", shape[-1]), arguments[size])
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
    elif name.startswith("AdaptiveAvgPool"):
        axes = int(name[-2])
        arguments.setdefault("output_size", target[-axes:] if len(target) >= axes else 1)
    elif name == "Upsample" and "scale_factor" not in arguments:
        arguments.setdefault("size", target[1:])
    elif name == "Unflatten":
        arguments.setdefault("dim", 1)
        arguments.setdefault("unflattened_size", target)


def _predicted(module: nn.Module, edge: Edge, sources: Sequence[Shape], path: FieldPath) -> Shape:
    """The shape that foreign code makes of the sources."""
    try:
        # a copy with the same weights, as it may keep what it was given, and here these are no numbers
        tensors = {id(one): one for one in (*module.parameters(), *module.buffers())}
        return _shape_after(copy.deepcopy(module, tensors), sources)
    except Exception as error:  # a foreign predictor may raise anything
        given = ", ".join(f"'{name}' {shape}" for name, shape in zip(edge.sources, sources, strict=True))
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(Fault(f"the predictor does not take states {given}: {reason}", path)) from None


def _wrong_shape(edge: Edge, predicted: Shape, target: Shape, path: FieldPath) -> Fault:
    hint = ""
    if math.prod(predicted) == math.prod(target):
        hint = "End the predictor with 'Unflatten'." if len(predicted) == 1 else "Add 'Flatten'."
    message = f"edge '{edge.name}' predicts shape {predicted}, but node '{edge.target}' has shape {target}"
    return Fault(message, path, hint)


def _shape_after(module: nn.Module, sources: Sequence[Shape]) -> Shape:
    """Shape that ``module`` makes of the sources, without the batch and without computing."""
    with (
        uninterrupted(),
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.no_grad(),
        without_log("torch._subclasses.fake_tensor"),
    ):
        training = module.training
        module.eval()
        try:
            predicted = module(*(torch.empty(2, *shape) for shape in sources))
        finally:
            module.train(training)
    return _shape_of(predicted)


def _shape_of(predicted: Any) -> Shape:
    """The shape of a prediction from a batch of 2, without the batch."""
    if not isinstance(predicted, Tensor):
        raise TypeError(f"it returns {type(predicted).__name__}, not a tensor")
    if predicted.shape[:1] != (2,):
        raise ValueError(f"it makes shape {tuple(predicted.shape)} of a batch of 2")
    return tuple(predicted.shape[1:])
