"""A spec and a model become a network: backbone, predictors and dynamics, and no state."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pcgraph.display.text import format_count
from pcgraph.dynamics.energies import TermEnergy
from pcgraph.dynamics.gains import Dynamics, Energy, Predify
from pcgraph.errors import Fault, ModelError, SpecError, suggestions
from pcgraph.files.tensors import save_tensors
from pcgraph.files.weights import check_digest, find_weights
from pcgraph.graph import Edge, PCGraph, assemble
from pcgraph.predictors.build import build_predictor
from pcgraph.predictors.carried import measure_carried
from pcgraph.predictors.edges import EdgeFunctions
from pcgraph.predictors.fast.large_kernels import part_large
from pcgraph.predictors.masks import mask_weights
from pcgraph.predictors.reach import count_reach
from pcgraph.runs.record import check_written
from pcgraph.spec import Backbone, EnergyDynamics, Spec, SpecLike, as_spec
from pcgraph.spec.weights import WeightFile, file_of
from pcgraph.tracing.backbone import about_backbone, load_backbone
from pcgraph.tracing.drive import Drive
from pcgraph.tracing.shapes import like_weights
from pcgraph.tracing.verify import IMAGENET, Statistics
from pcgraph.tracing.weight_fit import Own, kind_of, type_of

_SEEDED = threading.RLock()
"""Held while first weights are drawn: from torch's generator, of which all threads have one."""


class PCNetwork(nn.Module):
    """What `build` makes: everything that has parameters, and the graph that ties it together.

    Attributes:
        spec: The spec that it was built from.
        graph: Nodes, edges and error terms.
        drive: The backbone cut at the nodes; None without a backbone.
        predictors: The functions of all other edges, by edge name.
        starts: What makes the learned first guesses of the states, by edge name; see `PCGraph.starts`.
        dynamics: The rule, as gains.
        energies: The energies of the error terms, by the first edge of each; see `energy`.
    """

    def __init__(
        self,
        spec: Spec,
        graph: PCGraph,
        drive: Drive | None,
        predictors: nn.ModuleDict,
        dynamics: Dynamics,
        starts: nn.ModuleDict | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.graph = graph
        self.drive = drive
        self.predictors = EdgeFunctions(dict(predictors.items()))
        self.dynamics = dynamics
        self.energies = nn.ModuleDict()
        for first, *_ in graph.terms.values():
            shape = graph.nodes[first.target].shape
            self.energies[first.name] = TermEnergy(first.energy, first.precision, shape)
        self.starts = nn.ModuleDict() if starts is None else starts

    @property
    def feedback_trained(self) -> bool:
        """Whether the predictors' weights were loaded: from a file, or by `load_state_dict`."""
        return self.predictors.trained

    @feedback_trained.setter
    def feedback_trained(self, trained: bool) -> None:
        self.predictors.trained = trained

    def __repr__(self) -> str:
        counts = [p.numel() for p in self.parameters()]
        learning = [p.numel() for p in self.parameters() if p.requires_grad]
        weights = f"{format_count(sum(counts))} parameters, {format_count(sum(learning))} require a gradient"
        place = f"{str(self.dtype).removeprefix('torch.')} on {self.device}"
        return f"PCNetwork of {self.spec!r}\n{self.graph.summary()}\n  {weights}; {place}"

    def _repr_html_(self) -> str | None:
        """The wiring, drawn, in a notebook; None without matplotlib, where the text is shown."""
        from pcgraph import wiring_html

        return wiring_html(self)

    def forward(self, inputs: Tensor, steps: int | None = None) -> Any:
        """What the network makes of images after some steps of its dynamics: ``network(images, steps=10)``.

        No state is kept; `Scheduler` gives the steps between, and takes clamps and masks. As in any module,
        gradients flow through the whole run where they are enabled and the images or a parameter require
        them; under `torch.no_grad` nothing is kept for them.

        Args:
            inputs: Images (batch, *shape), as for `Scheduler.start`.
            steps: Number of steps; left out, the spec's. A ``tolerance`` in the spec may end them early.

        Returns:
            The backbone's output for the last state, in the form that the model returns it. Without a
            backbone, in which no node is the output: the last state of every node (batch, *shape), by name.

        Raises:
            InputError: An input or a number of steps that does not fit.
            DivergenceError: A state is not finite.
        """
        from pcgraph import Scheduler  # which stands above this room, and runs it

        tracked = inputs.requires_grad or any(p.requires_grad for p in self.parameters())
        differentiable = tracked and torch.is_grad_enabled()
        scheduler = Scheduler(self)
        state = scheduler.run(inputs, steps, record=[], differentiable=differentiable).state
        if self.drive is None:
            return dict(state.values)
        return scheduler.readout(state, differentiable=differentiable)

    def energy(self, term: str) -> TermEnergy:
        """The energy of an error term."""
        energy = self.energies[self.graph.terms[term][0].name]
        assert isinstance(energy, TermEnergy)
        return energy

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters, and so of the states."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    def save_weights(self, path: str | Path) -> None:
        """Write what the spec's edges learn to one safetensors file, keyed ``EDGE.parameter``.

        That is the predictors' weights and learned precisions, and as ``start:EDGE.parameter`` the weights of
        the first guesses; the backbone's weights are not in it.
        """
        save_tensors(self._learned(), Path(path))

    def load_weights(self, path: str | Path) -> None:
        """Read what the edges have learned from a file that `save_weights` or the importer wrote.

        Raises:
            InputError: The file is in a run folder, and is not what the run wrote.
            ModelError: The file is missing or unreadable, or its tensors do not fit the predictors.
        """
        if not Path(path).is_file():
            raise ModelError(Fault(f"there is no weight file '{path}'", ("weights",)))
        check_written(Path(path))
        try:
            weights = load_file(path)
        except Exception as error:  # safetensors raises its own type for a damaged file
            raise ModelError(Fault(f"'{path}' is not a safetensors file: {error}", ("weights",))) from None
        own, tied = self._learned(), self._tied()
        absent = [name for name in own if not any(other in weights for other in tied.get(name, [name]))]
        there, ours = suggestions(weights), suggestions(own)
        faults = [_weight_fault(name, "is missing", there) for name in absent]
        faults += [_weight_fault(name, "belongs to no edge", ours) for name in weights if name not in own]
        faults += [
            Fault(
                f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}",
                ("weights",),
            )
            for name in own
            if name in weights and own[name].shape != weights[name].shape
        ]
        faults += [
            Fault(f"'{name}' is {type_of(weights[name])}, expected {type_of(own[name])}", ("weights",))
            for name in own
            if name in weights and kind_of(own[name]) != kind_of(weights[name])
        ]
        if faults:
            raise ModelError(faults)
        for part, prefix in self._parts():
            held = {name: weights[prefix + name] for name in part.state_dict() if prefix + name in weights}
            part.load_state_dict(held, strict=False)
        self.feedback_trained = True

    def _learned(self) -> dict[str, Tensor]:
        return {
            prefix + name: tensor
            for part, prefix in self._parts()
            for name, tensor in part.state_dict().items()
        }

    def _tied(self) -> dict[str, list[str]]:
        """All names, in a weight file, of the tensor that a name stands for."""
        groups = [
            [prefix + name for name in names] for part, prefix in self._parts() for names in Own(part).tied
        ]
        return {name: names for names in groups for name in names}

    def _parts(self) -> list[tuple[nn.ModuleDict, str]]:
        """What learns besides the backbone, each with the prefix of its names in a weight file."""
        return [(self.predictors, ""), (self.energies, ""), (self.starts, "start:")]


def _weight_fault(name: str, problem: str, suggest: Callable[[str], str]) -> Fault:
    return Fault(f"tensor '{name}' {problem} in the weight file", ("weights",), suggest(name))


def read(edge: Edge, values: Mapping[str, Tensor]) -> list[Tensor]:
    """What an edge's function is given of these states: copies, where it may write into them."""
    return [values[name].clone() if edge.is_foreign else values[name] for name in edge.sources]


def build(
    spec: SpecLike,
    model: nn.Module | None = None,
    *,
    trust: bool = False,
    seed: int = 0,
    weights: bool = True,
    verify: bool = True,
) -> PCNetwork:
    """Build the network that a spec describes.

    Args:
        spec: A spec, the same as a mapping, the path of a spec file, or the name of a shipped spec
            (``pcg.build("digits")``); see `load_spec`.
        model: The backbone itself, instead of the one that the spec names; it is copied. Where the spec
            names a weight file for the backbone, as a training's does, the copy gets these weights.
        trust: Whether ``python:`` references in the spec may be imported.
        seed: Seed of the predictors' (and a random backbone's) first weights. Several threads that build at
            once wait for each other, so that each gets those of its own seed.
        weights: Whether to load weights. A network without them is there to be looked at: its backbone
            may have no storage, and C is not counted.
        verify: Whether to compare what was read of the backbone with the model itself, before anything
            runs: two forward passes and a backward one of each, on three images in all.

    Returns:
        The network in eval mode, of the backbone's type and on its device; the backbone is frozen.

    Raises:
        SpecError: The spec is not valid or does not fit the model.
        ModelError: The model or weights cannot be had.
    """
    spec = as_spec(spec)
    try:
        with _SEEDED, torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _build(spec, model, trust, weights, verify and weights)
        if weights and spec.weights is not None:
            network.load_weights(weight_file(spec))
        if weights and isinstance(network.dynamics, Predify) and network.dynamics.auto:
            network.dynamics = measured(network, _plain_states(network))
    except (SpecError, ModelError) as error:
        raise type(error)(replace(fault, where=spec.locate(fault.path)) for fault in error.faults) from None
    return network.eval()


def weight_file(spec: Spec) -> Path:
    """The file that the spec's ``weights`` mean.

    Raises:
        ModelError: There is no such file, or another one than the spec means.
    """
    assert spec.weights is not None
    try:
        path = find_weights(file_of(spec.weights), spec.folder)
        check_digest(path, spec.weights.sha256 if isinstance(spec.weights, WeightFile) else None)
        return path
    except ModelError as error:
        raise ModelError(replace(fault, path=("weights",)) for fault in error.faults) from None


def measured(network: PCNetwork, start: Mapping[str, Tensor] | None = None) -> Predify:
    """The network's rule `predify`, with C and what errors do for the predictors as they are now.

    Args:
        network: The network, with its weights.
        start: The states at step 0; see `measure_carried`.
    """
    rule = network.dynamics
    assert isinstance(rule, Predify)
    reach = {name: _reach(network.graph, name, network.predictors[name]) for name in rule.reach}
    return Predify(rule.graph, rule.spec, reach, measure_carried(rule.graph, network.predictors, start))


def _plain_states(network: PCNetwork) -> dict[str, Tensor] | None:
    """The plain network's states for one standard normal image; None where some nodes lie outside it."""
    graph, drive = network.graph, network.drive
    if drive is None or set(graph.nodes) != set(drive.shapes):
        return None
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *drive.shapes[graph.receiver], generator=generator)
    with torch.no_grad():
        return drive.states(image.to(network.device, network.dtype))


def _build(spec: Spec, model: nn.Module | None, trust: bool, weights: bool, verify: bool) -> PCNetwork:
    drive = _drive(spec, model, trust, weights, verify)
    graph = assemble(spec, drive.shapes, drive.reads) if drive else assemble(spec)
    if drive and any(edge.predictor == "auto" for edge in (*graph.edges.values(), *graph.starts.values())):
        graph = assemble(spec, drive.shapes, drive.reads, drive.layouts())
    predictors, starts = nn.ModuleDict(), nn.ModuleDict()
    faults: list[Fault] = []
    for edge in graph.edges.values():
        if edge.predictor is not None:
            try:
                predictor = build_predictor(edge, graph, trust)
                mask_weights(predictor, edge, spec.folder)
                part_large(predictor)
                predictors[edge.name] = predictor
            except SpecError as error:
                faults += error.faults
    for (
        start
    ) in graph.starts.values():  # after the others, whose first random weights they leave as they were
        try:
            starts[start.name] = build_predictor(start, graph, trust)
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)
    dynamics = _dynamics(spec, graph, predictors, weights)
    network = PCNetwork(spec, graph, drive, predictors, dynamics, starts)
    if drive is not None:
        _follow(network, drive)
    return network


def _follow(network: PCNetwork, drive: Drive) -> None:
    """Give everything else the type of the backbone's weights, and their device if they have storage."""
    dtype, device = like_weights(drive.model)
    for child in network.children():
        if child is not drive and device.type not in ("meta", "cpu"):
            child.to(device)
        if child is not drive and dtype != torch.get_default_dtype():
            child.to(dtype)


def _drive(spec: Spec, model: nn.Module | None, trust: bool, weights: bool, verify: bool) -> Drive | None:
    places = {name: node.module for name, node in spec.nodes.items() if node.module is not None}
    if spec.backbone is None:
        if model is not None:
            raise SpecError(Fault("a model was given, but the spec has no backbone", ("backbone",)))
        return None
    backbone, constants = load_backbone(
        spec.backbone, model, trust=trust, meta=not weights, folder=spec.folder
    )
    with about_backbone():
        return Drive(
            backbone,
            places,
            spec.backbone.input,
            owned=True,
            constants=constants,
            output=spec.backbone.output,
            statistics=_statistics(spec.backbone),
            verify=verify,
        )


def _statistics(backbone: Backbone) -> Statistics:
    return (backbone.preprocess.mean, backbone.preprocess.std) if backbone.preprocess else IMAGENET


def _dynamics(spec: Spec, graph: PCGraph, predictors: nn.ModuleDict, count: bool) -> Dynamics:
    if isinstance(spec.dynamics, EnergyDynamics):
        return Energy(graph, spec.dynamics)
    reach: dict[str, float] = {}
    if spec.dynamics.gradient == "normalized":
        for name, predictor in predictors.items():
            reach[name] = _reach(graph, name, predictor) if count else graph.edges[name].reach or math.nan
    return Predify(graph, spec.dynamics, reach)


def _reach(graph: PCGraph, name: str, predictor: nn.Module) -> float:
    """C of an edge: the spec's, or counted."""
    edge = graph.edges[name]
    return edge.reach or count_reach(predictor, [graph.nodes[source].shape for source in edge.sources])
