"""The drive: a backbone cut at its nodes, as small programs from states to predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from pcgraph.errors import Fault, SpecError, closest
from pcgraph.spec.layout import Layout
from pcgraph.tracing.channels_last import is_depthwise
from pcgraph.tracing.draws import draw, site_of, sites_of
from pcgraph.tracing.layout import layouts, operations
from pcgraph.tracing.precision import keep_precision
from pcgraph.tracing.program import INPUT, OUTPUT, CutGraph, Part, Stage, prediction_key
from pcgraph.tracing.reading import Asked, Reading, read
from pcgraph.tracing.shapes import Value
from pcgraph.tracing.verify import IMAGENET, Statistics

__all__ = ["Drive", "Stage"]


class Drive(nn.Module):
    """The feedforward predictions of a network with states in it.

    The network is cut at each node: whatever uses the node's value reads the node's state instead,
    and what the network computes there is the node's prediction. The weights are a copy of the
    model's, always in eval mode, and nothing is changed in place.

    Args:
        model: The network; it is not changed.
        nodes: For each cut its place: a qualified name, or a module's name for its last operation.
        input_shape: Shape of one image.
        owned: Whether the model is nobody else's, so that its weights need not be copied.
        constants: What the model's forward is given besides the image, by parameter.
        output: Which part of the model's output is the network's; left out, its first tensor of shape
            (batch, classes), or else its first tensor.
        statistics: Mean and standard deviation of the images, for the comparison with the model.
        verify: Whether to compare the graph with the model before anything else; see `read`.

    Attributes:
        nodes: The qualified name of each cut, in the order of execution.
        order: The cuts in the order of execution.
        shapes: The shape of each cut's state without the batch, and of ``input``.
        output_shape: The same of the output; None when that is not one tensor.
        reads: For each cut the states that its prediction depends on, ``input`` first, then in the
            order of execution. Asking a state for its size only is no dependence.
        output_reads: The same for the output.
        sites: Where the network draws random numbers, which any stage may read from the environment.

    Raises:
        SpecError: A place that does not exist or cannot hold a state; all such faults at once.
        ModelError: The model cannot be read, cannot take such images, or differs from what was read.
    """

    def __init__(
        self,
        model: nn.Module,
        nodes: Mapping[str, str],
        input_shape: tuple[int, ...],
        *,
        owned: bool = False,
        constants: Mapping[str, Any] = {},
        output: str | None = None,
        statistics: Statistics = IMAGENET,
        verify: bool = True,
    ) -> None:
        super().__init__()
        asked = Asked(tuple(input_shape), constants, output, statistics)
        reading = read(model, asked, owned=owned, verify=verify)
        graph, values = reading.graph, reading.values
        qualified = {name: qualname for qualname, name in reading.names.items()}
        place = _Places(reading).resolve(nodes)
        rank = {node.name: index for index, node in enumerate(graph.nodes)}
        self.model = reading.root
        self.order: tuple[str, ...] = tuple(sorted(place, key=lambda cut: rank[place[cut]]))
        self.nodes: dict[str, str] = {cut: qualified[place[cut]] for cut in self.order}
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: tuple(input_shape)}
        self.shapes.update((cut, values[place[cut]].shape or ()) for cut in self.order)
        self.output_shape: tuple[int, ...] | None = values[graph.output_node().name].shape
        place, values = keep_precision(graph, place, values, reading.dtype)
        self._cut = CutGraph(graph, {cut: place[cut] for cut in self.order})
        self._made: dict[object, tuple[Stage, ...]] = {}
        reads = self._cut.dependences({name for name, value in values.items() if value.holds_tensor})
        self.reads: dict[str, tuple[str, ...]] = {cut: self._sorted(reads[place[cut]]) for cut in self.order}
        self.output_reads: tuple[str, ...] = self._sorted(reads[graph.output_node().name])
        self.sites = sites_of(graph)
        self.train(False)

    def layouts(self) -> dict[str, Layout | None]:
        """What the dimensions of each cut's state are, and of ``input``; None where nothing says it."""
        found = None
        for values in (False, True):
            with contextlib.suppress(Exception):  # whatever foreign code may raise on such tensors
                found = operations(self.model, self._cut.graph, self.shapes[INPUT], values=values)
                break
        if found is None:
            return {}
        graph, made = found
        states = {cut: made[name] for cut, name in self._cut.place.items()}
        return layouts(graph, {INPUT: graph.find_nodes(op="placeholder")[0], **states})

    def constants(self, fixed: frozenset[str]) -> Stage:
        """What depends on ``fixed`` states only and any other stage reads: to be computed once.

        Predictions, and the output, are included where they depend on nothing else.

        Args:
            fixed: States that do not change during the run: ``input``, or cuts clamped as a whole.
        """
        if fixed not in self._made:
            gives = self._cut.constants(fixed)
            computes, _ = self._cut.closure(gives.values())
            self._made[fixed] = (self._cut.stage(Part((), computes, {}, gives), self.model),)
        return self._made[fixed][0]

    def stages(self, groups: Sequence[Sequence[str]], fixed: frozenset[str]) -> list[Stage]:
        """One stage for each group of targets, to be called in that order.

        Each computes what its targets need and what neither ``constants(fixed)`` nor an earlier
        stage of the list has left in the environment. Between two stages the caller may change the
        states of cuts whose stage has been called in this pass, and no others: a value that has
        read one of those is computed anew by the later stages, any other is reused.

        Args:
            groups: Cut names, or ``output``. A sweep is ``[["e1"], ["e2"], ["output"]]``, a
                synchronous step ``[["e1", "e2"]]``.
            fixed: As for :meth:`constants`, whose values must be in the environment.
        """
        chosen = tuple(tuple(group) for group in groups)
        key = (chosen, fixed)
        if key not in self._made:
            unknown = {target for group in chosen for target in group} - {*self.order, OUTPUT}
            if unknown:
                raise ValueError(f"no such targets: {sorted(unknown)}; there are {[*self.order, OUTPUT]}")
            parts = self._cut.plan(chosen, fixed)
            self._made[key] = tuple(self._cut.stage(part, self.model) for part in parts)
        return list(self._made[key])

    def draws(self, seed: int, places: Sequence[int], step: int, device: torch.device) -> dict[str, Tensor]:
        """What the network draws at one step for the images at these places of their data; see `draw`."""
        return {key: made.to(device) for key, made in draw(self.sites, seed, places, step).items()}

    def states(self, image: Tensor) -> dict[str, Tensor]:
        """The image (batch, *shape), and the value of each cut in the plain network."""
        fixed = frozenset([INPUT])
        env: dict[str, Any] = {INPUT: image, **self.draws(0, range(len(image)), 0, image.device)}
        env.update(self.constants(fixed)(env))
        for name, stage in zip(self.order, self.stages([[name] for name in self.order], fixed), strict=True):
            env.update(stage(env))
            env[name] = env[prediction_key(name)]
        return {name: env[name] for name in (INPUT, *self.order)}

    @cached_property
    def is_depthwise(self) -> bool:
        """Whether it is a model of depthwise convolutions that computes the same with maps channels-last."""
        return is_depthwise(self.model, self._cut.graph)

    @property
    def code(self) -> str:
        """The whole drive program as Python: from the states to all predictions and the output."""
        targets = (*self.order, OUTPUT)
        gives = {prediction_key(target): self._cut.target(target) for target in targets}
        computes, _ = self._cut.closure(gives.values())
        _, graph = self._cut.write(Part(targets, computes, {}, gives), named=True)
        return graph.python_code("self").src.strip() + "\n"

    def train(self, mode: bool = True) -> Drive:
        """Stay in eval mode: the backbone's batch norm and dropout never train."""
        super().train(False)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}  # generated functions are made anew when asked for

    def _sorted(self, states: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in (INPUT, *self.order) if name in states)


class _Places:
    """The places of a traced graph where a state can live."""

    def __init__(self, reading: Reading) -> None:
        graph, values = reading.graph, reading.values
        self.names = reading.names
        self.values = values
        self.dtype = reading.dtype
        self.image = next(iter(graph.find_nodes(op="placeholder"))).name
        self.reached = reached_by_input(graph, values)
        self.live = {graph.output_node().name}
        for node in reversed(graph.nodes):
            if node.name in self.live:
                self.live.update(operand.name for operand in node.all_input_nodes)

    def resolve(self, nodes: Mapping[str, str]) -> dict[str, str]:
        """The node name of each cut."""
        place: dict[str, str] = {}
        faults: list[Fault] = []
        for cut, asked in nodes.items():
            name, fault = self._find(asked), None
            if cut in (INPUT, OUTPUT):
                fault = Fault(f"the name '{cut}' is taken: it means the network's {cut}", hint="Rename it.")
            elif name is None:
                fault = Fault(f"the model has no node '{asked}'", hint=closest(asked, self._usable()))
            else:
                other = next((known for known, there in place.items() if there == name), None)
                if other is not None:
                    fault = Fault(
                        f"'{cut}' is at the same place as '{other}': '{asked}'", hint="Remove one of them."
                    )
                else:
                    fault = self._misfit(asked, name)
                    place[cut] = name
            if fault is not None:
                faults.append(Fault(fault.message, ("nodes", cut), fault.hint))
        if faults:
            raise SpecError(faults)
        return place

    def _find(self, asked: str) -> str | None:
        if asked in self.names:
            return self.names[asked]
        inside = [name for qualified, name in self.names.items() if qualified.startswith(asked + ".")]
        # A module's last operation; checks and sizes on the way are none.
        usable = [name for name in inside if name in self.live and self.values[name].holds_tensor]
        return (usable or inside)[-1] if inside else None

    def _misfit(self, asked: str, name: str) -> Fault | None:
        value = self.values[name]
        if name == self.image:
            return Fault(f"'{asked}' is the image itself", hint="It is the node 'input' already.")
        if value.type != "Tensor":
            return Fault(
                f"the value of '{asked}' is no tensor but {_article(value.type)}",
                hint=f"Choose a node that gives one tensor. {closest(asked, self._usable())}",
            )
        if name not in self.reached:
            return Fault(
                f"the input never reaches '{asked}': its value is the same for every image",
                hint=f"Choose a node that the image flows through. {closest(asked, self._usable())}",
            )
        if value.shape is None:
            return Fault(
                f"the value of '{asked}' has no batch dimension in front",
                hint=f"Choose a node with one. {closest(asked, self._usable())}",
            )
        if not value.shape:
            return Fault(
                f"the value of '{asked}' is one number an image, without a dimension besides the batch",
                hint=f"Choose a node before that dimension is dropped. {closest(asked, self._usable())}",
            )
        if not value.fits(self.dtype):
            return Fault(
                f"the value of '{asked}' is of type {_name(value.dtype)}, and states are of the type of the "
                f"weights, {_name(self.dtype)}",
                hint=f"Choose one with real numbers that lose nothing so. {closest(asked, self._usable())}",
            )
        return None

    def _usable(self) -> list[str]:
        return [
            qualified
            for qualified, name in self.names.items()
            if name in self.reached
            and self.values[name].shape
            and self.values[name].fits(self.dtype)
            and name != self.image
        ]


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _article(type_name: str) -> str:
    return f"{'an' if type_name[:1].lower() in 'aeiou' else 'a'} {type_name}"


def reached_by_input(graph: fx.Graph, values: Mapping[str, Value]) -> set[str]:
    """The names of the nodes whose value depends on what the image shows, not only on its size."""
    reached: set[str] = set()
    for node in graph.nodes:
        comes = node.op == "placeholder" or any(o.name in reached for o in node.all_input_nodes)
        comes = comes and site_of(node) is None
        if comes and (node.op == "output" or values[node.name].holds_tensor):
            reached.add(node.name)
    return reached
