"""What one step computes: predictions, errors, what the errors do to the states, and the next states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.dynamics.descent import Pace
from pcgraph.dynamics.gains import Scalar
from pcgraph.graph import Edge
from pcgraph.network import read
from pcgraph.predictors.fast.transposes import transpose
from pcgraph.simulation.image_parts import image_parts, of_images
from pcgraph.simulation.plan import Block, Group, Plan
from pcgraph.simulation.pullback import Differentiable, pullback
from pcgraph.state import State


@dataclass
class Evaluation:
    """What the delayed edges say of one state.

    Attributes:
        moved: The state of each node that they move, as far as they do; under a `Descent`, its slope.
        predictions: By edge; like what follows, only where it is kept.
        errors: ``target - prediction`` by error term.
        pulls: ``J_e^T xi_e`` by edge and source; for the backbone's predictions of one pass together,
            by the first of their edges that reads the source.
    """

    moved: dict[str, Tensor] = field(default_factory=dict)
    predictions: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, Tensor] = field(default_factory=dict)
    pulls: dict[tuple[str, str], Tensor] = field(default_factory=dict)


def evaluate(
    plan: Plan,
    state: State,
    differentiable: Differentiable,
    keep: bool = True,
    instead: Mapping[str, nn.Module] = {},
) -> Evaluation:
    """What the delayed edges do to the states, group by group.

    Args:
        plan: What there is to evaluate.
        state: Where.
        differentiable: See `Scheduler.step`.
        keep: Whether to keep why.
        instead: Predictors by edge, which compute what the network's do, with weights that are constant.
    """
    evaluation = Evaluation(predictions=dict(state.resting))
    whole = keep or differentiable or torch.compiler.is_compiling()
    for group in plan.groups:
        parts = [] if whole else image_parts(plan, group, state, instead)
        if parts:
            _evaluate_parts(plan, group, state, parts, evaluation.moved)
        else:
            _evaluate_group(plan, group, state, differentiable, keep, instead, evaluation)
    return evaluation


def _evaluate_parts(
    plan: Plan, group: Group, state: State, parts: Sequence[slice], moved: dict[str, Tensor]
) -> None:
    """One group, some images at a time: what it does to targets and sources."""
    nodes = [plan.terms[term][0].target for term in group.draws]
    nodes += [source for block in group.blocks for source in block.pulled]
    for node in nodes:
        if node not in moved:
            value = state.values[node]
            moved[node] = torch.zeros_like(value) if _descends(plan, node) else value.clone()
    for images in parts:
        some = Evaluation(moved={node: moved[node][images] for node in nodes})
        _evaluate_group(plan, group, of_images(state, images), False, False, {}, some)


def _evaluate_group(
    plan: Plan,
    group: Group,
    state: State,
    differentiable: Differentiable,
    keep: bool,
    instead: Mapping[str, nn.Module],
    evaluation: Evaluation,
) -> None:
    """Predictions and errors of one group, and what the errors do to targets and sources."""
    predictions = dict(state.resting)
    jobs: list[tuple[Block, dict[str, Any]]] = []
    linear: list[tuple[Edge, Callable[[Tensor], Tensor]]] = []
    for block in group.blocks:
        env: dict[str, Any] = {**state.constants, **state.draws} if block.in_backbone else {}
        env.update((source, state.read(source, block.delay)) for source in block.sources)
        edge = block.edges[0]
        predictor = None if block.in_backbone else instead.get(edge.name, plan.network.predictors[edge.name])
        if edge.name in instead:
            block = replace(block, function=partial(_predicted, instead[edge.name], edge))
        if predictor is not None and block.pulled and (back := transpose(predictor)) is not None:
            predictions[edge.name] = predictor(*read(edge, env))
            linear.append((edge, back))
        elif block.pulled:
            jobs.append((block, env))
        else:
            predictions.update(zip(block.names, block.function(env), strict=True))

    def predict(*sources: Tensor) -> tuple[Tensor, ...]:
        given = iter(sources)
        results: list[Tensor] = []
        for block, env in jobs:
            results += block.function({**env, **{source: next(given) for source in block.pulled}})
        return tuple(results)

    results: tuple[Tensor, ...] = ()
    if jobs:
        sources = [env[source] for block, env in jobs for source in block.pulled]
        results, pull = pullback(predict, sources, differentiable)
        names = [name for block, _ in jobs for name in block.names]
        predictions.update(zip(names, results, strict=True))
    errors: dict[str, Tensor] = {}
    weighted: dict[str, Tensor] = {}
    for name in group.terms:
        errors[name] = error_of(plan, name, state, predictions)
        weighted[name] = plan.energy[name].weighted(errors[name])
    pulls: dict[tuple[str, str], Tensor] = {}
    if jobs:
        owners = [(block.reader(source), source) for block, _ in jobs for source in block.pulled]
        bundles = [edge.bundle for block, _ in jobs for edge in block.edges]
        cotangents = [weighted[b].to(r.dtype) for b, r in zip(bundles, results, strict=True)]
        pulls = {o: g for o, g in zip(owners, pull(cotangents), strict=True) if g is not None}
    for edge, back in linear:
        pulled = back(weighted[edge.bundle].to(predictions[edge.name].dtype))
        pulls[edge.name, edge.sources[0]] = pulled.detach() if differentiable == "first_order" else pulled
    for owner, gradient in pulls.items():
        _move(plan, evaluation.moved, state, owner[1], plan.pull_gain(owner), gradient)
    for term, gain in group.draws.items():
        force = weighted[term]
        if not plan.energy[term].is_gaussian:
            force = _force(plan, term, state, predictions)
        _move(plan, evaluation.moved, state, plan.terms[term][0].target, -gain, force)
    if keep:
        if not differentiable:
            predictions = {name: prediction.detach() for name, prediction in predictions.items()}
        evaluation.predictions.update(predictions)
        evaluation.errors.update(errors)
        evaluation.pulls.update(pulls)


def _predicted(predictor: nn.Module, edge: Edge, env: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    return (predictor(*read(edge, env)),)


def _move(
    plan: Plan, moved: dict[str, Tensor], state: State, node: str, gain: Scalar, direction: Tensor
) -> None:
    """Add gain times direction to a node's next state (or slope), in the dtype of the state."""
    before = moved.get(node)
    if before is None and _descends(plan, node):
        before = moved[node] = torch.zeros_like(state.values[node])
    # compiling, torch (2.14) forgets the alpha of a matrix product
    if isinstance(gain, Tensor) or torch.compiler.is_compiling():
        moved[node] = (state.values[node] if before is None else before) + gain * direction
    elif before is None:
        moved[node] = torch.add(state.values[node], direction, alpha=gain)
    else:
        before.add_(direction, alpha=gain)


def _descends(plan: Plan, node: str) -> bool:
    """Whether a `Descent` turns the node's slope into its next state."""
    descent = plan.network.dynamics.descent
    return descent is not None and descent.rate[node] > 0


def error_of(plan: Plan, term: str, state: State, predictions: Mapping[str, Tensor]) -> Tensor:
    """Error of one term: the target's state less what the sum of the term's predictions expects."""
    target = state.values[plan.terms[term][0].target]
    return plan.energy[term].error(target, summed(plan, term, predictions))


def _force(plan: Plan, term: str, state: State, predictions: Mapping[str, Tensor]) -> Tensor:
    """Gradient of one term's energy for the target's state."""
    target = state.values[plan.terms[term][0].target]
    return plan.energy[term].force(target, summed(plan, term, predictions))


def advance(
    plan: Plan, state: State, evaluation: Evaluation, pace: Pace | None
) -> tuple[State, dict[str, Tensor]]:
    """Finish the moves of all nodes; delay-0 edges are evaluated on the way, in the sweep's order.

    These belong to the state that follows, and so to what a random backbone draws for it.

    Returns:
        The state that follows, and those of its delay-0 predictions that are watched and were made here.
    """
    draws = pace.draws if pace is not None else {}
    env: dict[str, Any] = {**state.constants, **draws, **state.values}
    values, moments, moved = dict(state.values), dict(state.moments), evaluation.moved
    seen: dict[str, Tensor] = {}
    descent = plan.network.dynamics.descent
    for visit in plan.visits:
        node, before = visit.node, state.values[visit.node]
        predictions = dict(state.resting)
        for block in visit.blocks:
            made = dict(zip(block.names, block.function(env), strict=True))
            predictions.update(made)
            seen.update((edge.name, made[edge.name]) for edge in block.edges if edge.bundle in plan.watched)
        for term, gain in visit.draws:
            _move(plan, moved, state, node, -gain, _force(plan, term, state, predictions))
        value = moved.get(node, before)
        if descent is not None and pace is not None and _descends(plan, node):
            slope = value if node in moved else torch.zeros_like(before)
            value, moments[node] = descent.move(node, before, slope, state.moments, pace)
        held = state.clamp.get(node)
        if held is not None:
            value = torch.where(held, before, value)
        values[node] = env[node] = value
    return state.followed_by(values, moments, draws), seen


def summed(plan: Plan, term: str, predictions: Mapping[str, Tensor]) -> Tensor:
    """What the edges of a term predict together."""
    first, *others = plan.terms[term]
    prediction = predictions[first.name]
    for edge in others:
        prediction = prediction + predictions[edge.name]
    return prediction
