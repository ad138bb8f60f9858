"""A spec and a model become a network: backbone, predictors and dynamics, and no state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcgraph.dynamics.energies import TermEnergy
from pcgraph.dynamics.gains import Dynamics, Energy, Predify
from pcgraph.errors import Fault, ModelError, SpecError, closest
from pcgraph.graph import Edge, PCGraph, assemble
from pcgraph.predictors.build import build_predictor
from pcgraph.predictors.fast.large_kernels import part_large
from pcgraph.predictors.masks import mask_weights
from pcgraph.predictors.reach import count_reach
from pcgraph.spec import Backbone, EnergyDynamics, Spec, load_spec
from pcgraph.tracing.drive import Drive
from pcgraph.tracing.models import load_backbone
from pcgraph.tracing.shapes import like_weights
from pcgraph.tracing.verify import IMAGENET, Statistics
from pcgraph.tracing.weights import find_weights


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
        feedback_trained: Whether the predictors' weights came from a file.
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
        self.predictors = predictors
        self.dynamics = dynamics
        self.energies = nn.ModuleDict()
        for first, *_ in graph.terms.values():
            shape = graph.nodes[first.target].shape
            self.energies[first.name] = TermEnergy(first.energy, first.precision, shape)
        self.starts = nn.ModuleDict() if starts is None else starts
        self.feedback_trained = False

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
        weights = {name: tensor.contiguous() for name, tensor in self._learned().items()}
        partial = Path(f"{path}.partial")
        save_file(weights, partial)
        partial.replace(path)

    def load_weights(self, path: str | Path) -> None:
        """Read what the edges have learned from a file that `save_weights` or the importer wrote.

        Raises:
            ModelError: The file is missing or unreadable, or its tensors do not fit the predictors.
        """
        if not Path(path).is_file():
            raise ModelError(Fault(f"there is no weight file '{path}'", ("weights",)))
        try:
            weights = load_file(path)
        except Exception as error:  # safetensors raises its own type for a damaged file
            raise ModelError(Fault(f"'{path}' is not a safetensors file: {error}", ("weights",))) from None
        own = self._learned()
        faults = [_weight_fault(name, "is missing", weights) for name in own if name not in weights]
        faults += [_weight_fault(name, "belongs to no edge", own) for name in weights if name not in own]
        faults += [
            Fault(
                f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(own[name].shape)}",
                ("weights",),
            )
            for name in own
            if name in weights and own[name].shape != weights[name].shape
        ]
        if faults:
            raise ModelError(faults)
        for part, prefix in self._parts():
            part.load_state_dict({name: weights[prefix + name] for name in part.state_dict()})
        self.feedback_trained = True

    def _learned(self) -> dict[str, Tensor]:
        return {
            prefix + name: tensor
            for part, prefix in self._parts()
            for name, tensor in part.state_dict().items()
        }

    def _parts(self) -> list[tuple[nn.ModuleDict, str]]:
        """What learns besides the backbone, each with the prefix of its names in a weight file."""
        return [(self.predictors, ""), (self.energies, ""), (self.starts, "start:")]


def _weight_fault(name: str, problem: str, others: Iterable[str]) -> Fault:
    return Fault(f"tensor '{name}' {problem} in the weight file", ("weights",), closest(name, others))


def read(edge: Edge, values: Mapping[str, Tensor]) -> list[Tensor]:
    """What an edge's function is given of these states: copies, where it may write into them."""
    return [values[name].clone() if edge.is_foreign else values[name] for name in edge.sources]


def build(
    spec: Spec | str | Path,
    model: nn.Module | None = None,
    *,
    trust: bool = False,
    seed: int = 0,
    weights: bool = True,
    verify: bool = True,
) -> PCNetwork:
    """Build the network that a spec describes.

    Args:
        spec: A spec, or the path of a spec file.
        model: The backbone itself, instead of the one that the spec names; it is copied.
        trust: Whether ``python:`` references in the spec may be imported.
        seed: Seed of the predictors' (and a random backbone's) first weights.
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
    if not isinstance(spec, Spec):
        spec = load_spec(spec)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _build(spec, model, trust, weights, verify and weights)
        if weights and spec.weights is not None:
            network.load_weights(weight_file(spec))
    except (SpecError, ModelError) as error:
        raise type(error)(replace(fault, where=spec.locate(fault.path)) for fault in error.faults) from None
    return network.eval()


def weight_file(spec: Spec) -> Path:
    """The file that the spec's ``weights`` mean.

    Raises:
        ModelError: There is no such file.
    """
    assert spec.weights is not None
    try:
        return find_weights(spec.weights, spec.folder)
    except ModelError as error:
        raise ModelError(replace(fault, path=("weights",)) for fault in error.faults) from None


def _build(spec: Spec, model: nn.Module | None, trust: bool, weights: bool, verify: bool) -> PCNetwork:
    drive = _drive(spec, model, trust, weights, verify)
    graph = assemble(spec, drive.shapes, drive.reads) if drive else assemble(spec)
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
    named = spec.backbone.model if model is None else model
    if named is None:
        raise SpecError(
            Fault(
                "the spec names no model", ("backbone",), "Name one under 'model', or pass build(model=...)."
            )
        )
    try:
        backbone, constants = load_backbone(
            named,
            weights=None if model is not None else spec.backbone.weights,
            match=spec.backbone.match,
            arguments=spec.backbone.arguments,
            trust=trust,
            meta=not weights,
            folder=spec.folder,
        )
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
    except ModelError as error:
        raise ModelError(
            replace(f, path=("backbone", *(f.path or ("model",)))) for f in error.faults
        ) from None


def _statistics(backbone: Backbone) -> Statistics:
    return (backbone.preprocess.mean, backbone.preprocess.std) if backbone.preprocess else IMAGENET


def _dynamics(spec: Spec, graph: PCGraph, predictors: nn.ModuleDict, count: bool) -> Dynamics:
    if isinstance(spec.dynamics, EnergyDynamics):
        return Energy(graph, spec.dynamics)
    reach: dict[str, float] = {}
    if spec.dynamics.gradient == "normalized":
        for name, predictor in predictors.items():
            edge = graph.edges[name]
            shapes = [graph.nodes[source].shape for source in edge.sources]
            reach[name] = edge.reach or (count_reach(predictor, shapes) if count else math.nan)
    return Predify(graph, spec.dynamics, reach)
