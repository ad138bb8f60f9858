"""Queries: hold some nodes, or parts of them, let the others settle, and read them.

One call classifies (hold the image, read the label), generates (hold the label, read the image),
completes (hold a part of the image), recalls (hold a part of a stored one) and denoises (hold the image
softly); the network and its dynamics are the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.acceleration import Measured
from pcgraph.dynamics.gains import Energy
from pcgraph.errors import Fault, InputError, closest
from pcgraph.graph import Edge, Node, PCGraph, edge_name
from pcgraph.learning.local import Local
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.state import State


@dataclass(frozen=True)
class Answer:
    """What a network says of the nodes that are not held.

    Attributes:
        read: The nodes that were asked for.
        values: The state of every node after inference, (batch, *shape).
        expected: For each node that something predicts: what the predictions expect of it after
            inference, weighted by their precisions. Rule ``energy`` alone.
        energy: The energy of each error term at each step, (steps + 1, batch).
        steps: Steps of inference.
        converged: Whether inference stopped because no state changed by more than the tolerance.
        resting: The nodes that do not move: what is read of them is what is expected.
        fastest: What was measured, where the fastest way was asked for.
    """

    read: tuple[str, ...]
    values: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    energy: Mapping[str, Tensor]
    steps: int
    converged: bool
    resting: frozenset[str]
    fastest: Measured | None = None

    def __getitem__(self, node: str) -> Tensor:
        """What is read of a node: its state; of a node whose rate is 0, what is expected of it.

        Raises:
            InputError: There is no such node.
        """
        if node not in self.values:
            raise InputError(Fault(f"there is no node '{node}'", hint=closest(node, self.values)))
        return self.expected[node] if node in self.resting else self.values[node]


def query(
    network: PCNetwork,
    clamp: Mapping[str, Tensor],
    *,
    mask: Mapping[str, Tensor] | None = None,
    free: Collection[str] = (),
    soft: Mapping[str, float] | None = None,
    steps: int | None = None,
    tolerance: float | None = None,
    generator: torch.Generator | None = None,
    seed: int = 0,
    fast: bool = False,
) -> Answer:
    """Hold what is given, let the rest settle, and read it.

    Args:
        network: What `build` made.
        clamp: Values (batch, *shape) by node; a batch of 1 is given to all.
        mask: For a node that is held in part: True where it is held; broadcast to its value.
        free: The nodes to read; left out, all that are not held as a whole. One that is given a value too,
            and no mask, starts there and moves.
        soft: For a node that is held softly: the precision of what is seen of it. Its state is free, and what
            was given is one more prediction of it: a noisy observation, of this inverse variance. Rule
            ``energy`` alone.
        steps: Steps of inference; left out, the spec's.
        tolerance: Stop once no state changes by more than this share of its norm; left out, the spec's.
        generator: Source of the numbers for ``initial: normal``.
        seed: Of what a backbone draws that is random in eval mode.
        fast: Whether to measure first which way to compute such a query is the fastest on this machine; see
            `PCNetwork.optimize`, which changes how the network's weights lie in memory. Compiling is tried
            where it can pay off within the steps.

    Raises:
        InputError: A name or a shape that does not fit, or nothing is free.
        DivergenceError: A state is not finite.

    Example:
        >>> answer = query(network, {"label": torch.eye(10)}, free=["image"], steps=300)
        >>> answer["image"].shape
        torch.Size([10, 1, 28, 28])
    """
    mask, soft = dict(mask or {}), dict(soft or {})
    graph = network.graph
    _check(network, clamp, mask, free, soft)
    held = {name for name in clamp if name not in mask and name not in free and name not in soft}
    read = tuple(name for name in graph.nodes if (name in free or name in soft if free else name not in held))
    if not read:
        raise InputError("every node is held, there is nothing to read: give fewer clamps, a mask, or 'free'")
    largest = max(len(value) for value in clamp.values())
    given = {name: v.expand(largest, *v.shape[1:]) if len(v) == 1 else v for name, v in clamp.items()}
    asked = network
    if soft:
        asked = observed(network, soft)
        given |= {_seen(name): given[name] for name in soft}
    moving = [name for name in clamp if name not in held and name not in mask]
    how: dict[str, Any] = {"clamp": given, "mask": mask, "free": moving, "record": ["energy"]}
    steps = network.spec.schedule.steps if steps is None else steps
    fastest = asked.optimize(**how, steps=steps) if fast else None
    run = (Scheduler(asked) if fastest is None else fastest.scheduler).run(
        **how,
        steps=steps,
        tolerance=tolerance,
        generator=generator,
        seed=seed,
    )
    rate = network.dynamics.rate if isinstance(network.dynamics, Energy) else {}
    expected = expectations(asked, run.state) if rate else {}
    still = (name for name in expected if name not in held and name not in mask and rate.get(name) == 0)
    return Answer(
        read,
        {name: run.state.values[name] for name in graph.nodes},
        {name: value for name, value in expected.items() if name in graph.nodes},
        {term: torch.stack(series) for term, series in run.energy.items()},
        run.steps,
        run.converged,
        frozenset(still),
        fastest,
    )


def observed(network: PCNetwork, soft: Mapping[str, float]) -> PCNetwork:
    """The same network, weights and all, with a node ``NAME_seen`` that predicts each node in ``soft``.

    Args:
        network: A network with dynamics ``rule: energy``.
        soft: The precision of the prediction, by node.
    """
    nodes, edges = list(network.graph.nodes.values()), list(network.graph.edges.values())
    predictors = dict(network.predictors.items())
    for name, precision in soft.items():
        edge = edge_name([_seen(name)], name)
        nodes.append(Node(_seen(name), network.graph.nodes[name].shape))
        edges.append(
            Edge(
                edge, (_seen(name),), name, "feedforward", "auto", 1, bundle=edge, precision=float(precision)
            )
        )
        predictors[edge] = nn.Identity()
    graph = PCGraph(nodes, edges, network.graph.starts.values())
    assert isinstance(network.dynamics, Energy)
    dynamics = Energy(graph, network.dynamics.spec)
    made = PCNetwork(network.spec, graph, network.drive, nn.ModuleDict(predictors), dynamics, network.starts)
    made.energies.update(dict(network.energies.items()))
    return made.to(network.device, network.dtype).train(network.training)


def expectations(network: PCNetwork, state: State) -> dict[str, Tensor]:
    """What the predictions of each node expect of it, weighted by their precisions; by node."""
    with torch.no_grad():
        mu = {term: value.detach() for term, value in Local(network).predict(state).mu.items()}
        found = {}
        for node in network.graph.nodes:
            terms = network.graph.terms_into(node)
            if terms:
                energies = [network.energy(term) for term in terms]
                parts = [e.weighted(e.mean(mu[term])) for e, term in zip(energies, terms, strict=True)]
                weight = sum((energy.precision for energy in energies[1:]), energies[0].precision)
                found[node] = torch.stack(parts).sum(dim=0) / weight
        return found


def _seen(name: str) -> str:
    return f"{name}_seen"


def _check(
    network: PCNetwork,
    clamp: Mapping[str, Tensor],
    mask: Mapping[str, Tensor],
    free: Collection[str],
    soft: Mapping[str, float],
) -> None:
    """What the scheduler cannot know of a query, or says less clearly."""
    nodes = network.graph.nodes
    if not clamp:
        raise InputError("nothing is given; give clamp={node: value}")
    for what, names in (("clamp", clamp), ("mask", mask), ("free", free), ("soft", soft)):
        for name in names:
            if name not in nodes:
                raise InputError(Fault(f"{what}: there is no node '{name}'", hint=closest(name, nodes)))
            if what in ("mask", "soft") and name not in clamp:
                raise InputError(Fault(f"{what}: node '{name}' is given no value", hint=closest(name, clamp)))
    for name, value in clamp.items():
        if not isinstance(value, Tensor) or tuple(value.shape[1:]) != nodes[name].shape or not len(value):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            expected = ", ".join(["batch", *map(str, nodes[name].shape)])
            raise InputError(f"node '{name}' is given {got}; expected a tensor of shape ({expected})")
    sizes = {name: len(value) for name, value in clamp.items()}
    if len(set(sizes.values()) - {1}) > 1:
        raise InputError(f"the given nodes differ in batch size: {sizes}; expected one size, or 1")
    for name in soft:
        other = "mask" if name in mask else "free" if name in free else None
        if other is not None:
            raise InputError(f"node '{name}' stands in soft and in {other}; expected one of them")
    for name, precision in soft.items():
        if not (isinstance(network.dynamics, Energy) and network.dynamics.rate[name] > 0):
            raise InputError(f"soft: node '{name}' does not move, so that it cannot be held softly")
        if not 0 < precision < math.inf:
            raise InputError(f"soft: '{name}' has precision {precision}; expected a number above 0")
