"""A model is read: as modules where that shows all that it does, else as ATen operations, and verified."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from pcgraph.errors import Fault, ModelError, PCGraphWarning
from pcgraph.tracing.copying import copy_model, refuse_unreadable, settle, unwrap
from pcgraph.tracing.differences import explain
from pcgraph.tracing.draws import RANDOM, foreign_draws, random_error, sites_of
from pcgraph.tracing.hooks import drop_observers
from pcgraph.tracing.outputs import choose, follow
from pcgraph.tracing.shapes import Value, like_weights, propagate
from pcgraph.tracing.snapshot import Snapshot
from pcgraph.tracing.tracer import image_parameter, trace_symbolically
from pcgraph.tracing.verify import IMAGENET, Model, Observed, Statistics, compare, observe


@dataclass(frozen=True)
class Asked:
    """What is asked of a model besides its weights.

    Attributes:
        constants: What its forward is given besides the image, by parameter.
        output: Which part of its output is meant; left out, the first tensor (batch, classes).
        statistics: Mean and standard deviation of each channel, by which images are normalised.
    """

    input_shape: tuple[int, ...]
    constants: Mapping[str, Any]
    output: str | None = None
    statistics: Statistics = IMAGENET


@dataclass(frozen=True)
class Reading:
    """A model as a graph.

    Attributes:
        root: The copy of the model that the graph refers to.
        graph: One placeholder, the image; nothing in place; one value as output.
        names: The name of the node of each place, by qualified name, in the order of execution.
        values: What each node computes, by node name.
    """

    root: nn.Module
    graph: fx.Graph
    names: dict[str, str]
    values: dict[str, Value]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, and so of the images and the states."""
        return like_weights(self.root)[0]


def read(model: nn.Module, asked: Asked, *, owned: bool = False, verify: bool = True) -> Reading:
    """Read a model, and compare what was read with the model itself.

    Symbolic tracing, which calls modules as they are, comes first. `torch.export` reads what that cannot:
    models that ask for shapes, change their modules or buffers while they run, or make modules on the way.

    Args:
        model: The model.
        asked: What it is given, and which output is meant.
        owned: Whether the model is nobody else's, so that it need not be copied.
        verify: Whether to run it: two forward passes and a backward one of model and graph. A model
            without storage is not run.

    Raises:
        ModelError: It cannot be read, cannot take such images, or differs from what was read.
    """
    model = unwrap(model)
    refuse_unreadable(model)
    root = settle(model if owned else copy_model(model))
    image_parameter(root, asked.constants)
    asked = replace(asked, constants=_placed(asked.constants, root))
    stored = not any(tensor.is_meta for tensor in (*root.parameters(), *root.buffers()))
    if stored:
        drop_observers(Model(root, asked.constants, asked.output), asked.input_shape)
    observed: Observed | None = None
    broken: Exception | None = None
    if verify and stored:
        drawn = foreign_draws()
        try:
            observed = observe(
                Model(root, asked.constants, asked.output), asked.input_shape, asked.statistics
            )
        except Exception as error:
            broken = error
        if foreign_draws() != drawn:
            raise random_error("random", type(root).__name__, "which draws outside torch, in Python or numpy")
    reading = _either(root, asked, observed, broken)
    if sites_of(reading.graph) and not root.training:
        _say_what_trains(root)
    return reading


def _say_what_trains(root: nn.Module) -> None:
    training = [f"'{name}' ({type(part).__name__})" for name, part in root.named_modules() if part.training]
    if training:
        warnings.warn(
            f"the model is in eval mode, and in it {', '.join(training[:3])} in train mode: "
            "it stays so, and the model draws random numbers",
            PCGraphWarning,
            stacklevel=2,
        )


def _placed(constants: Mapping[str, Any], root: nn.Module) -> dict[str, Any]:
    """Lists of numbers as tensors, of the type and on the device of the weights."""
    dtype, device = like_weights(root)

    def place(value: Any) -> Any:
        value = torch.tensor(value) if isinstance(value, list) else value
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype if value.is_floating_point() else value.dtype)

    return {name: place(value) for name, value in constants.items()}


def _either(root: nn.Module, asked: Asked, observed: Observed | None, broken: Exception | None) -> Reading:
    before = Snapshot(root)
    first: ModelError
    try:
        reading = _symbolic(root, asked)
        _check(reading, asked, observed, broken)
        return reading
    except ModelError as error:
        first = error
    before.restore()
    if broken is not None:
        raise first if _blames_input(first) else _cannot_run(asked, broken) from broken
    try:
        reading = _exported(root, asked)
        if observed is not None and (sites := sites_of(reading.graph)):
            drawing = Model(root, asked.constants, asked.output, sites)
            observed = observe(drawing, asked.input_shape, asked.statistics)
        _check(reading, asked, observed, None)
        return reading
    except ModelError as error:
        second = error
    if _blames_input(first):
        raise first
    raise _both(first, second) from first


def _symbolic(root: nn.Module, asked: Asked) -> Reading:
    graph, names = trace_symbolically(root, asked.constants)
    qualified = {name: qualname for qualname, name in names.items()}
    values = propagate(root, graph, asked.input_shape, qualified)
    output = graph.output_node()

    def shape(part: Any) -> tuple[int, ...] | None:
        return values[part.name].shape if isinstance(part, fx.Node) else None

    chosen = follow(output.args[0], choose(output.args[0], shape, asked.output))
    output.args = (chosen,)
    if isinstance(chosen, fx.Node) and values[chosen.name].type != "Tensor":
        raise ModelError("the output comes out of a module that gives several tensors")
    if isinstance(chosen, fx.Node):
        values[output.name] = replace(values[chosen.name], cost=0)
    return Reading(root, graph, names, values)


def _exported(root: nn.Module, asked: Asked) -> Reading:
    from pcgraph.tracing.exporting import export  # torch.export takes seconds to import

    graph, names = export(root, asked.input_shape, asked.constants, asked.output)
    qualified = {name: qualname for qualname, name in names.items()}
    values = propagate(root, graph, asked.input_shape, qualified)
    return Reading(root, graph, names, values)


def _check(reading: Reading, asked: Asked, observed: Observed | None, broken: Exception | None) -> None:
    if broken is not None:
        raise _cannot_run(asked, broken)
    if observed is None:
        return
    try:
        difference = compare(reading.root, reading.graph, reading.names, observed)
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"what was read of the model cannot be run: {type(error).__name__}: {text}"
        ) from error
    if difference is not None:
        model = Model(reading.root, asked.constants, asked.output, sites_of(reading.graph))
        raise explain(model, reading.graph, reading.names, observed, difference)
    if observed.mixes_images and not sites_of(reading.graph):
        warnings.warn(
            "the model's output for an image depends on the other images of its batch: what a network with "
            "it computes depends on how many images are computed at once, and on which",
            PCGraphWarning,
            stacklevel=2,
        )


def _both(first: ModelError, error: ModelError) -> ModelError:
    """Why a model cannot be read either way; that it is random belongs to it."""
    random = [fault for fault in first.faults if RANDOM in fault.message]
    if not random or any(RANDOM in fault.message for fault in error.faults):
        return error
    return ModelError(replace(random[0], message=f"{random[0].message}: {error.faults[0].message}"))


def _blames_input(error: ModelError) -> bool:
    return any("cannot take an input of shape" in fault.message for fault in error.faults)


def _cannot_run(asked: Asked, error: Exception) -> ModelError:
    if isinstance(error, ModelError):
        return error
    text = str(error).strip().partition("\n")[0]
    return ModelError(
        Fault(
            f"the model cannot take an input of shape {asked.input_shape}: {type(error).__name__}: {text}",
            hint="Give the input shape that it was made for, without the batch.",
        )
    )
