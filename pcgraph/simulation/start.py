"""The state at step 0: what is given, what the plain network computes, zeros or noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
) -> State:
    """Build the state at step 0; see `Scheduler.start` for the arguments.

    With a compiler the backbone's pass is compiled.
    """
    given = given_values(network, inputs, clamp)
    held = held_parts(network, given, mask, free)
    batch = len(next(iter(given.values())))
    here = plan(frozenset(name for name, part in held.items() if part is None), batch)
    values = {name: given[name] for name in here.fixed}
    constants: dict[str, Any] = here.constants(values) if here.constants else {}
    resting = resting_predictions(here, values)
    initial = network.spec.schedule.initial
    if initial in ("feedforward", "amortised"):
        _feedforward(network, here, constants, resting, values, given, held, batch, compiler)
    else:
        for name in here.moving:
            shape = (batch, *network.graph.nodes[name].shape)
            value = torch.zeros(shape, dtype=network.dtype, device=network.device)
            if initial == "normal":
                device = generator.device if generator else network.device
                value = torch.randn(shape, generator=generator, dtype=network.dtype, device=device).to(value)
            values[name] = _merged(name, value, given, held)
    values = {name: values[name] for name in network.graph.nodes}
    past = {  # distinct tensors: a compiled step would be compiled anew when they stop being the same
        name: tuple(values[name].clone() for _ in range(depth - 1))
        for name, depth in network.graph.memory.items()
    }
    descent = network.dynamics.descent
    moments = descent.start(values, here.fixed) if descent else {}
    return State(values, past, held, constants, resting, moments)


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


def _merged(
    name: str, initial: Tensor, given: Mapping[str, Tensor], held: Mapping[str, Tensor | None]
) -> Tensor:
    """The start of a moving node: the given value where there is one, else the initial one."""
    if name not in given:
        return initial
    part = held.get(name)
    return given[name] if part is None else torch.where(part, given[name], initial)


def _feedforward(
    network: PCNetwork,
    plan: Plan,
    constants: Mapping[str, Any],
    resting: Mapping[str, Tensor],
    values: dict[str, Tensor],
    given: Mapping[str, Tensor],
    held: Mapping[str, Tensor | None],
    batch: int,
    compiler: Compiler | None,
) -> None:
    """Fill ``values`` with what one feedforward pass from the given nodes computes.

    With ``amortised`` a node that has a start begins at its guess, where what is given reaches it. Else in
    a free-standing part of the graph a node starts at the mean of what its feedforward predictions expect,
    weighted by their precisions; within a cycle only predictions from outside it count; a node that
    nothing predicts starts at zero.
    """
    dtype = network.dtype
    graph = network.graph
    if graph.receiver not in values and graph.receiver in given and network.drive:
        image = given[graph.receiver]
        values[graph.receiver] = _merged(graph.receiver, torch.zeros_like(image), given, held)
    if network.drive is not None:
        cuts = [name for name in network.drive.order if name not in plan.fixed]
        stages = network.drive.stages([[name] for name in cuts], plan.fixed)
        terms = {edge.target: edge.bundle for edge in graph.edges.values() if edge.predictor is None}

        def backbone(
            env: dict[str, Any], given: Mapping[str, Tensor], held: Mapping[str, Tensor | None]
        ) -> dict[str, Tensor]:
            env = dict(env)
            for name, stage in zip(cuts, stages, strict=True):
                env.update(stage(env))
                expected = network.energy(terms[name]).mean(env[f"{name}.prediction"])
                env[name] = _merged(name, expected.to(dtype), given, held)
            return {name: env[name] for name in cuts}

        env = {**constants, **values}
        if compiler is None or torch.is_grad_enabled():
            values.update(backbone(env, given, held))
        else:
            values.update(compiler((plan, tuple(given)), backbone, env, dict(given), dict(held)))
        for name in cuts:
            if values[name] is constants.get(f"{name}.prediction"):
                values[name] = values[name].clone()  # distinct, for the same reason as `past`
    starts: dict[str, Edge] = {}
    known: list[str] = []
    if network.spec.schedule.initial == "amortised":
        known = [name for name in given if held.get(name) is None]
        starts = {name: edge for name, edge in graph.serving(given).items() if name not in known}
        values.update((name, given[name]) for name in known)
    order = graph.start_order(starts, known) if starts or known else graph.feedforward_order
    for name, cycle in order:
        if name in values:
            continue
        if name in starts:
            edge = starts[name]
            guess = network.starts[edge.name](*read(edge, values)).to(dtype, copy=True)
            values[name] = _merged(name, guess, given, held)
            continue
        total: Tensor | None = None
        weight: float | Tensor = 0.0
        for term in graph.terms_into(name, "feedforward"):
            predictions = [
                resting[edge.name]
                if edge.name in resting
                else network.predictors[edge.name](*read(edge, values))
                for edge in graph.terms[term]
                if cycle.isdisjoint(edge.sources)
            ]
            if predictions:
                energy = network.energy(term)
                expected = energy.weighted(energy.mean(sum(predictions[1:], predictions[0])))
                total = expected if total is None else total + expected
                weight = weight + energy.precision
        if total is None:
            initial = torch.zeros(batch, *graph.nodes[name].shape, dtype=dtype, device=network.device)
        else:
            initial = (total / weight).to(dtype)
        values[name] = _merged(name, initial, given, held)
