"""What one should know of a network's gains: which run away, and which do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pcgraph.analysis.stability import EdgeLimit, limits_of, step_eigenvalue
from pcgraph.dynamics.automatic import SHARE
from pcgraph.dynamics.gains import Predify
from pcgraph.errors import Fault, FieldPath, InputError
from pcgraph.graph import Kind
from pcgraph.network import PCNetwork
from pcgraph.predictors.error_strength import bound_carried, measure_carried
from pcgraph.scheduler import Scheduler
from pcgraph.spec import EnergyDynamics, NodeGains, PredifyDynamics
from pcgraph.state import State

GROWTH = 3.0
"""States that grow beyond so many times their first norm are worth a remark."""
RESTARTS = 3
LARGE = 1000
"""Predictors beyond which a whole step is not looked at by itself: it would take longer than some steps."""


def check_gains(network: PCNetwork) -> list[Fault]:
    """Gains that run away or do nothing, as far as that can be told without the backbone's weights.

    Single edges are looked at; of a network without a backbone, the whole step too, if it is not `LARGE`.

    Args:
        network: With the weights of its predictors, and its C counted; see `measured`.
    """
    found = [*inert_gains(network), *strong_edges(network)]
    return found or [*_whole_step(network)]


def strong_edges(network: PCNetwork, start: Mapping[str, Tensor] | None = None) -> Iterator[Fault]:
    """The edges of each source whose error steps together are stronger than it bears."""
    if not isinstance(network.dynamics, Predify):
        return
    known = dict(network.dynamics.carried) if start is None else {}
    bounds = limits_of(network.dynamics, {**bound_carried(network.graph, network.predictors), **known})
    doubtful = [one.edge for edges in _too_strong(bounds).values() for one in edges if one.gain]
    unknown = {edge for edge in doubtful if (edge, network.graph.edges[edge].sources[0]) not in known}
    measured = {**known, **measure_carried(network.graph, network.predictors, start, unknown)}
    for source, edges in _too_strong(limits_of(network.dynamics, measured)).items():
        total = sum(one.share for one in edges)
        worst = max(edges, key=lambda one: one.share)
        alone = "" if len(edges) == 1 else f", most of it by '{worst.edge}'"
        what = f"edge '{worst.edge}' carries" if len(edges) == 1 else "its edges carry"
        message = f"{what} errors back to '{source}' {total:.3g} times as strongly as it bears{alone}"
        value = f"{SHARE * worst.gain / total:.2g}"
        hint = f"Write 'error: {value}' for '{source}', or 'error: auto'."
        path: FieldPath = ("dynamics", "nodes", source, "error")
        own = network.graph.edges[worst.edge]
        if own.error is not None:
            path, hint = (*own.path, "error"), f"Write 'error: {value}' for the edge, or 'error: auto'."
        yield Fault(message, path, hint)


def _too_strong(limits: list[EdgeLimit]) -> dict[str, list[EdgeLimit]]:
    """By source those edges whose shares of their limits together exceed 1."""
    by_source: dict[str, list[EdgeLimit]] = {}
    for one in limits:
        by_source.setdefault(one.source, []).append(one)
    return {source: edges for source, edges in by_source.items() if sum(one.share for one in edges) > 1}


def inert_gains(network: PCNetwork) -> Iterator[Fault]:
    """Gains of single nodes that move nothing."""
    dynamics = network.spec.dynamics
    if not isinstance(dynamics, PredifyDynamics):
        return
    for node, own in dynamics.nodes.items():
        for name in ("feedforward", "feedback", "error"):
            value = getattr(own, name)
            if value not in (None, 0.0) and (reason := inert_reason(network, node, name)):
                hint = "Take it out, or add what it is for."
                yield Fault(f"{value} does nothing: {reason}", ("dynamics", "nodes", node, name), hint)


def inert_reason(network: PCNetwork, node: str, name: str) -> str:
    """Why a gain of a node moves nothing; empty where it does."""
    graph = network.graph
    if network.drive is not None and node == graph.receiver:
        return f"'{node}' is the image, which is held"
    if name == "error":
        assert isinstance(network.dynamics, Predify)
        return "" if network.dynamics.moving[node] else f"'{node}' makes no feedback prediction"
    kind: Kind = "feedback" if name == "feedback" else "feedforward"
    terms = graph.terms_into(node, kind)
    if not terms:
        return f"'{node}' receives no {kind} prediction"
    set_own = all(graph.terms[term][0].gain is not None for term in terms)
    return f"every {kind} edge into '{node}' sets its own 'gain'" if set_own else ""


def explain_growth(network: PCNetwork, inputs: Tensor, end: State | None = None) -> list[Fault]:
    """Why the states of a run grew beyond `GROWTH` times their first norm; empty where they did not.

    Args:
        network: What ran.
        inputs: What it was given, (batch, *shape).
        end: Its last state; left out, it is known that the states grew.
    """
    scheduler = Scheduler(network)
    start = scheduler.start(inputs)
    grown = {name: _times(end, start, name) for name in start.values} if end is not None else {}
    node = max(grown, key=grown.__getitem__, default="")
    if end is not None and not grown[node] > GROWTH:
        return []
    said = []
    if end is not None:
        message = f"the state of '{node}' grew to {grown[node]:.3g} times its first norm in {end.step} steps"
        said.append(Fault(message, ("dynamics",)))
    first = scheduler.start(inputs[:1])
    causes = [*strong_edges(network, first.values)] or [*growing_step(scheduler, first)]
    return [*said, *causes]


def _times(end: State, start: State, node: str) -> float:
    first, last = float(start.values[node].norm()), float(end.values[node].norm())
    return last / first if first else (1.0 if not last else float("inf"))


def _whole_step(network: PCNetwork) -> Iterator[Fault]:
    """Of a network without a backbone, whether its step runs away from a standard normal input."""
    count = len(network.predictors)
    if network.drive is not None or not 0 < count <= LARGE:
        return
    shape = network.graph.nodes[network.graph.receiver].shape
    given = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0), dtype=network.dtype)
    scheduler = Scheduler(network)
    try:
        start = scheduler.start(given, generator=torch.Generator().manual_seed(0))
        yield from growing_step(scheduler, start, restarts=min(RESTARTS, max(1, LARGE // count)))
    except InputError:  # nothing moves, or Adam
        return


def growing_step(scheduler: Scheduler, state: State, restarts: int = RESTARTS) -> Iterator[Fault]:
    """The whole step, where it makes small changes grow."""
    value = step_eigenvalue(scheduler, state, tolerance=0.01, restarts=restarts)
    if not abs(value) > 1 + 1e-3:
        return
    network, dynamics = scheduler.network, scheduler.network.spec.dynamics
    message = f"a whole step makes a small change {abs(value):.3g} times larger"
    if isinstance(dynamics, EnergyDynamics):
        rate = f" to {2 / (1 + abs(value)):.2g} times what they are" if value.real < 0 else ""
        yield Fault(message, ("dynamics",), f"Lower the rates{rate}.")
        return
    share = next((share for share in (0.5, 0.25, 0.1, 0.05) if _holds(network, state, share)), None)
    hint = "Lower the gains of single edges."
    if share is not None:
        hint = f"Lower the nodes' 'feedback' and 'error' to {share:g} times what they are."
    yield Fault(message, ("dynamics",), hint)


def _holds(network: PCNetwork, state: State, share: float) -> bool:
    """Whether the step would hold with so much of the lambda and alpha of all nodes."""
    rule = network.dynamics
    assert isinstance(rule, Predify)
    values = rule.values()
    own = {
        node: NodeGains(
            feedforward=float(values[node, "feedforward"]),
            feedback=share * float(values[node, "feedback"]),
            error=share * float(values[node, "error"]),
        )
        for node in network.graph.nodes
    }
    network.dynamics = Predify(
        rule.graph, rule.spec.model_copy(update={"nodes": own}), rule.reach, rule.carried
    )
    try:
        return abs(step_eigenvalue(Scheduler(network), state, tolerance=0.01, restarts=RESTARTS)) < 1
    finally:
        network.dynamics = rule
