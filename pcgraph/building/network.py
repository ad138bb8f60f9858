"""A spec and a model become a network."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pcgraph.building.graph import assemble
from pcgraph.building.size import check_size
from pcgraph.display.garbage import uncollected
from pcgraph.dynamics.gains import Dynamics, Energy, Predify, check_memory
from pcgraph.errors import Fault, ModelError, SpecError
from pcgraph.files.weights import check_digest, find_weights
from pcgraph.graph import PCGraph
from pcgraph.network import PCNetwork
from pcgraph.predictors.build import build_predictor
from pcgraph.predictors.error_strength import measure_carried
from pcgraph.predictors.fast.large_kernels import part_large
from pcgraph.predictors.masks import mask_weights
from pcgraph.predictors.reach import count_reach
from pcgraph.spec import Backbone, EnergyDynamics, Spec, SpecLike, as_spec
from pcgraph.spec.weights import PredictorFile, WeightFile, file_of
from pcgraph.tracing.backbone import about_backbone, load_backbone
from pcgraph.tracing.drive import Drive
from pcgraph.tracing.shapes import like_weights, needs_values
from pcgraph.tracing.verify import IMAGENET, Statistics

_SEEDED = threading.RLock()
"""Held while first weights are drawn: from torch's generator, of which all threads have one."""


@uncollected()
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
        seed: Seed of the predictors' (and a random backbone's) first weights. An edge's depend on it and on
            the edge's name, not on the other edges. Several threads that build at once wait for each other,
            so that each gets those of its own seed.
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
            network = _build(spec, model, seed, trust, weights, verify and weights)
        if weights and spec.weights is not None:
            load_predictors(network, spec)
        if weights and isinstance(network.dynamics, Predify) and network.dynamics.auto:
            network.dynamics = measured(network)
    except (SpecError, ModelError) as error:
        raise type(error)(replace(fault, where=spec.locate(fault.path)) for fault in error.faults) from None
    return network.eval()


def load_predictors(network: PCNetwork, spec: Spec) -> None:
    """Give the edges what the spec's ``weights`` hold.

    Raises:
        ModelError: See `weight_file` and `PCNetwork.load_weights`.
    """
    weights = spec.weights
    strict = weights.strict if isinstance(weights, PredictorFile) else True
    network.load_weights(weight_file(spec), strict=strict)


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


def measured(network: PCNetwork) -> Predify:
    """The network's rule `predify`, with C, and what `auto` has to know, for the predictors as they are now.

    Args:
        network: The network, with its weights.
    """
    rule = network.dynamics
    assert isinstance(rule, Predify)
    reach = {name: _reach(network.graph, name, network.predictors[name]) for name in rule.reach}
    carried = measure_carried(rule.graph, network.predictors, _plain_states(network)) if rule.auto else {}
    return Predify(rule.graph, rule.spec, reach, carried)


def _plain_states(network: PCNetwork) -> dict[str, Tensor] | None:
    """The plain network's states for one standard normal image.

    None where some nodes lie outside it, or it has no weights.
    """
    graph, drive = network.graph, network.drive
    if (
        drive is None
        or set(graph.nodes) != set(drive.shapes)
        or any(one.is_meta for one in drive.parameters())
    ):
        return None
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *drive.shapes[graph.receiver], generator=generator)
    with torch.no_grad():
        return drive.states(image.to(network.device, network.dtype))


def _seed(seed: int) -> None:
    """As `torch.manual_seed`, which keeps a traceback for each kind of device that is not in use."""
    torch.default_generator.manual_seed(seed)
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if used or torch.get_default_device().type != "cpu":
        torch.manual_seed(seed)


def _build(
    spec: Spec, model: nn.Module | None, seed: int, trust: bool, weights: bool, verify: bool
) -> PCNetwork:
    torch.manual_seed(seed)
    drive = _drive(spec, model, trust, weights, verify)
    graph = assemble(spec, drive.shapes, drive.reads) if drive else assemble(spec)
    if drive and any(edge.predictor == "auto" for edge in (*graph.edges.values(), *graph.starts.values())):
        graph = assemble(spec, drive.shapes, drive.reads, drive.layouts())
    faults = check_size(graph)
    predictors, starts = nn.ModuleDict(), nn.ModuleDict()
    for edge in graph.edges.values():
        if edge.predictor is not None and (edge.is_foreign or not faults):
            try:
                _seed(seed_of(seed, edge.name))
                predictor = build_predictor(edge, graph, trust)
                mask_weights(predictor, edge, spec.folder)
                part_large(predictor)
                predictors[edge.name] = predictor
            except SpecError as error:
                faults += error.faults
    for start in graph.starts.values():
        if faults and not start.is_foreign:
            continue
        try:
            _seed(seed_of(seed, f"start:{start.name}"))
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


def seed_of(seed: int, name: str) -> int:
    """The seed of an edge's first weights: the same in every wiring that has the edge."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")


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

    def read(backbone: Backbone, meta: bool) -> Drive:
        loaded, constants = load_backbone(backbone, model, trust=trust, meta=meta, folder=spec.folder)
        with about_backbone():
            return Drive(
                loaded,
                places,
                backbone.input,
                owned=True,
                constants=constants,
                output=backbone.output,
                statistics=_statistics(backbone),
                verify=verify,
            )

    try:
        return read(spec.backbone, not weights)
    except ModelError as error:
        if weights or not needs_values(error):
            raise
        return read(spec.backbone.model_copy(update={"weights": None}), meta=False)


def _statistics(backbone: Backbone) -> Statistics:
    return (backbone.preprocess.mean, backbone.preprocess.std) if backbone.preprocess else IMAGENET


def _dynamics(spec: Spec, graph: PCGraph, predictors: nn.ModuleDict, count: bool) -> Dynamics:
    if isinstance(spec.dynamics, EnergyDynamics):
        return Energy(graph, spec.dynamics)
    reach: dict[str, float] = {}
    if spec.dynamics.gradient == "normalized":
        for name, predictor in predictors.items():
            reach[name] = _reach(graph, name, predictor) if count else graph.edges[name].reach or math.nan
    rule = Predify(graph, spec.dynamics, reach)
    check_memory(rule)
    return rule


def _reach(graph: PCGraph, name: str, predictor: nn.Module) -> float:
    """C of an edge: the spec's, or counted."""
    edge = graph.edges[name]
    return edge.reach or count_reach(predictor, [graph.nodes[source].shape for source in edge.sources])
