"""The state at step 0: what is given, what the plain network computes, zeros or noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pcgraph.errors import Fault, InputError, closest
from pcgraph.graph import Edge
from pcgraph.network import PCNetwork, read
from pcgraph.simulation.compiling import Compiler
from pcgraph.simulation.plan import Plan
from pcgraph.state import State


def start_state(
    network: PCNetwork,
    plan: Callable[[frozenset[str], int], Plan],
    inputs: Tensor | None,
    clamp: Mapping[str, Tensor],
    mask: Mapping[str, Tensor],
    free: Collection[str],
    generator: torch.Generator | None,
    compiler: Compiler | None = None,
    seed: int = 0,
    places: Sequence[int] | Tensor | None = None,
) -> State:
    """Build the state at step 0; see `Scheduler.start` for the arguments.

    With a compiler the backbone's pass is compiled.
    """
    checked = given_values(network, inputs, clamp)
    given = Given(checked, held_parts(network, checked, mask, free))
    where = _places(places, given.batch)
    draws = network.draws(seed, where, 0)
    here = plan(frozenset(name for name, part in given.held.items() if part is None), given.batch)
    values = {name: checked[name] for name in here.fixed}
    constants: dict[str, Any] = here.constants(values) if here.constants else {}
    resting = resting_predictions(here, values)
    initial = network.spec.schedule.initial
    if initial in ("feedforward", "amortised"):
        _feedforward(network, here, {**constants, **draws}, resting, values, given, compiler)
    else:
        for name in here.moving:
            shape = (given.batch, *network.graph.nodes[name].shape)
            value = torch.zeros(shape, dtype=network.dtype, device=network.device)
            if initial == "normal":
                device = generator.device if generator else network.device
                value = torch.randn(shape, generator=generator, dtype=network.dtype, device=device).to(value)
            values[name] = given.merged(name, value)
    values = {name: values[name] for name in network.graph.nodes}
    past = {  # distinct tensors: a compiled step would be compiled anew when they stop being the same
        name: tuple(values[name].clone() for _ in range(depth - 1))
        for name, depth in network.graph.memory.items()
    }
    descent = network.dynamics.descent
    moments = descent.start(values, here.fixed) if descent else {}
    return State(values, past, given.held, constants, resting, moments, 0, draws, seed, where)


def _places(places: Sequence[int] | Tensor | None, batch: int) -> tuple[int, ...]:
    """The place of each image in its data; left out, in the batch."""
    found = tuple(range(batch) if places is None else [int(place) for place in places])
    if len(found) != batch or min(found) < 0:
        raise InputError(f"places: expected {batch} numbers from 0 on, one for each image, got {list(found)}")
    return found


def resting_predictions(plan: Plan, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Predictions of the edges that read fully clamped nodes alone."""
    return {block.edges[0].name: block.function(dict(values))[0] for block in plan.once}


def given_values(network: PCNetwork, inputs: Tensor | None, clamp: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All values that the caller gives, checked, on the network's device and in its dtype."""
    given = dict(clamp)
    receiver = network.graph.receiver
    if inputs is not None:
        if receiver in given:
            raise InputError(f"node '{receiver}' is given twice: as inputs and in clamp")
        given[receiver] = inputs
    elif network.drive is not None and receiver not in given:
        raise InputError("a network with a backbone needs inputs: the images")
    if not given:
        raise InputError("nothing is given; give inputs or clamp={node: value}")
    device, dtype = network.device, network.dtype
    for name, value in given.items():
        if name not in network.graph.nodes:
            raise InputError(
                Fault(f"clamp: there is no node '{name}'", hint=closest(name, network.graph.nodes))
            )
        shape = network.graph.nodes[name].shape
        if not isinstance(value, Tensor) or tuple(value.shape[1:]) != shape or not len(value):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            expected = ", ".join(["batch", *map(str, shape)])
            raise InputError(f"node '{name}' is given {got}; expected a tensor of shape ({expected})")
        value = value.clone() if value.is_inference() else value
        given[name] = value.to(device=device, dtype=dtype)
    sizes = {name: len(value) for name, value in given.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"the given nodes differ in batch size: {sizes}")
    return given


def held_parts(
    network: PCNetwork, given: Mapping[str, Tensor], mask: Mapping[str, Tensor], free: Collection[str]
) -> dict[str, Tensor | None]:
    """Which nodes are clamped, and where."""
    for what, names in (("mask", mask), ("free", free)):
        for name in names:
            if name not in given:
                raise InputError(Fault(f"{what}: node '{name}' is given no value", hint=closest(name, given)))
    held: dict[str, Tensor | None] = {}
    for name, value in given.items():
        if name in free:
            continue
        held[name] = None
        if name in mask:
            part = mask[name]
            if not isinstance(part, Tensor) or part.dtype != torch.bool:
                got = part.dtype if isinstance(part, Tensor) else type(part).__name__
                raise InputError(f"mask: '{name}' is {got}; expected a tensor of torch.bool (True is held)")
            part = part.to(network.device)
            try:
                held[name] = torch.broadcast_to(part, value.shape)
            except RuntimeError:
                raise InputError(
                    f"mask: '{name}' has shape {tuple(part.shape)}, which does not broadcast to "
                    f"{tuple(value.shape)}"
                ) from None
    return held


@dataclass(frozen=True)
class Given:
    """What the caller gives: values (batch, *shape) by node, and which of them, or which part, is held."""

    values: Mapping[str, Tensor]
    held: Mapping[str, Tensor | None]

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(next(iter(self.values.values())))

    def merged(self, name: str, initial: Tensor) -> Tensor:
        """The start of a moving node: the given value where there is one, else the initial one."""
        if name not in self.values:
            return initial
        part = self.held.get(name)
        return self.values[name] if part is None else torch.where(part, self.values[name], initial)


def _feedforward(
    network: PCNetwork,
    plan: Plan,
    constants: Mapping[str, Any],
    resting: Mapping[str, Tensor],
    values: dict[str, Tensor],
    given: Given,
    compiler: Compiler | None,
) -> None:
    """Fill ``values`` with what one feedforward pass from the given nodes computes.

    With ``amortised`` a node that has a start begins at its guess, where what is given reaches it. Else in
    a free-standing part of the graph a node starts at the mean of what its feedforward predictions expect,
    weighted by their precisions; within a cycle only predictions from outside it count; a node that
    nothing predicts starts at zero.
    """
    graph = network.graph
    if network.drive is not None:
        if graph.receiver not in values and graph.receiver in given.values:
            image = torch.zeros_like(given.values[graph.receiver])
            values[graph.receiver] = given.merged(graph.receiver, image)
        values.update(_through_backbone(network, plan, constants, values, given, compiler))
    starts: dict[str, Edge] = {}
    known: list[str] = []
    if network.spec.schedule.initial == "amortised":
        known = [name for name in given.values if given.held.get(name) is None]
        starts = {name: edge for name, edge in graph.serving(given.values).items() if name not in known}
        values.update((name, given.values[name]) for name in known)
    order = graph.start_order(starts, known) if starts or known else graph.feedforward_order
    for name, cycle in order:
        if name in values:
            continue
        if name in starts:
            guess = network.starts[starts[name].name](*read(starts[name], values))
            initial = guess.to(network.dtype, copy=True)
        else:
            initial = _expected(network, name, cycle, resting, values, given.batch)
        values[name] = given.merged(name, initial)


def _through_backbone(
    network: PCNetwork,
    plan: Plan,
    constants: Mapping[str, Any],
    values: Mapping[str, Tensor],
    given: Given,
    compiler: Compiler | None,
) -> dict[str, Tensor]:
    """The states in the backbone, each cut reading the states that were made before it."""
    drive = network.drive
    assert drive is not None
    cuts = [name for name in drive.order if name not in plan.fixed]
    stages = drive.stages([[name] for name in cuts], plan.fixed)
    terms = {edge.target: edge.bundle for edge in network.graph.edges.values() if edge.predictor is None}
    dtype = network.dtype

    def backbone(
        env: dict[str, Any], values: Mapping[str, Tensor], held: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        env, given = dict(env), Given(values, held)
        for name, stage in zip(cuts, stages, strict=True):
            env.update(stage(env))
            expected = network.energy(terms[name]).mean(env[f"{name}.prediction"])
            env[name] = given.merged(name, expected.to(dtype))
        return {name: env[name] for name in cuts}

    env = {**constants, **values}
    if compiler is None or torch.is_grad_enabled():
        made = backbone(env, given.values, given.held)
    else:
        key = (plan, tuple(given.values))
        made = compiler(key, backbone, env, dict(given.values), dict(given.held))
    for name, value in made.items():
        if value is constants.get(f"{name}.prediction"):
            made[name] = value.clone()  # distinct tensors: a compiled step would be compiled anew
    return made


def _expected(
    network: PCNetwork,
    name: str,
    cycle: frozenset[str],
    resting: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    batch: int,
) -> Tensor:
    """The mean of what a node's feedforward predictions expect, weighted by their precisions."""
    graph = network.graph
    total: Tensor | None = None
    weight: float | Tensor = 0.0
    for term in graph.terms_into(name, "feedforward"):
        predictions = [
            resting[edge.name] if edge.name in resting else network.predictors[edge.name](*read(edge, values))
            for edge in graph.terms[term]
            if cycle.isdisjoint(edge.sources)
        ]
        if predictions:
            energy = network.energy(term)
            expected = energy.weighted(energy.mean(sum(predictions[1:], predictions[0])))
            total = expected if total is None else total + expected
            weight = weight + energy.precision
    if total is None:
        return torch.zeros(batch, *graph.nodes[name].shape, dtype=network.dtype, device=network.device)
    return (total / weight).to(network.dtype)
