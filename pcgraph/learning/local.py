"""What the weights of a network learn from: each error term's energy, with the states as constants."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from pcgraph.dynamics.gains import Energy, Gains
from pcgraph.errors import Fault, InputError
from pcgraph.learning.dense import Layered
from pcgraph.network import PCNetwork, read
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.plan import Plan
from pcgraph.state import State

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Predictions:
    """All predictions at one state, as functions of the weights and of the states that they read.

    Attributes:
        mu: The prediction of each error term, (batch, *target shape).
        states: By node, the state that they read: a leaf of the graph of each ``mu``.
    """

    mu: dict[str, Tensor]
    states: dict[str, Tensor]


class Local:
    """Evaluates the error terms of a network one by one: nothing but its edges ties a term to another.

    Args:
        network: A network with dynamics ``rule: energy``.

    Raises:
        InputError: The network has another rule, or a backbone that is random in eval mode.
    """

    def __init__(self, network: PCNetwork) -> None:
        if not isinstance(network.dynamics, Energy):
            message = f"'{network.spec.name}' has dynamics of rule '{network.spec.dynamics.rule}'"
            raise InputError(Fault(message, hint="Learning follows an energy: write 'rule: energy'."))
        if network.drive is not None and network.drive.sites:
            message = "the backbone is random in eval mode, and its energy another one at each step"
            raise InputError(Fault(message, ("backbone",), "Learn with a backbone that draws nothing."))
        self.network = network
        self.rate = network.dynamics.rate
        self.scheduler = Scheduler(network)
        self._plans: dict[frozenset[str], Plan] = {}
        self._layered: dict[frozenset[str], Layered | None] = {}

    def start(self, clamp: Values) -> State:
        """The state at step 0, whose resting predictions stay functions of the weights."""
        state = self.scheduler.start(clamp=clamp, differentiable=True)
        return replace(state, values={name: value.detach() for name, value in state.values.items()})

    def settle(self, clamp: Values, steps: int) -> State:
        """The state after inference."""
        fixed = frozenset(clamp)
        if fixed not in self._layered:
            self._layered[fixed] = Layered.find(self.network, fixed)
        layered = self._layered[fixed]
        if layered is not None and not torch.is_autocast_enabled(self.network.device.type):
            return layered.settle(self.start(clamp), steps)
        return self.scheduler.run(steps=steps, clamp=clamp, record=[]).state

    def predict(
        self, state: State, terms: Collection[str] | None = None, through: bool = False
    ) -> Predictions:
        """Predict every term (or some terms) from a state.

        Args:
            state: Where from.
            terms: Which terms; all of them when left out.
            through: Whether the predictions stay tied to what the state was computed from; only
                backpropagation wants that.
        """
        watched = frozenset(self.network.graph.terms if terms is None else terms)
        if watched not in self._plans:
            # No gains and nothing fixed: every watched prediction is made, and none was kept from before.
            none = Gains(dict.fromkeys(self.network.graph.terms, 0.0), {}, {})
            self._plans[watched] = Plan(self.network, none, frozenset(), watched)
        plan = self._plans[watched]
        states: dict[str, Tensor] = {}
        made: dict[str, Tensor] = {}
        with torch.inference_mode(False), torch.enable_grad():
            constants = plan.constants({}) if plan.constants else {}
            for block in (*plan.delayed, *plan.observed()):
                resting = state.resting.get(block.names[0])
                if resting is not None and resting.requires_grad:  # made at the start, of the same weights
                    made[block.names[0]] = resting
                    continue
                env: dict[str, Any] = dict(constants) if block.in_backbone else {}
                for source in block.sources:
                    read = state.read(source, max(block.delay, 1))
                    if not through:
                        key = source if block.delay < 2 else f"{source}@{block.delay}"
                        read = states.setdefault(key, read.detach().requires_grad_())
                    env[source] = read
                results = block.function(env)
                made.update((edge.name, r) for edge, r in zip(block.edges, results, strict=True))
            # in the graph's order: a set's differs from process to process, and so would rounding
            mu = {
                term: _summed(made[e.name] for e in edges)
                for term, edges in plan.terms.items()
                if term in watched
            }
        return Predictions(mu, states)

    def energies(self, mu: Mapping[str, Tensor], values: Values) -> dict[str, Tensor]:
        """The energy of each term, averaged over the batch, when the states have these values."""
        graph = self.network.graph
        with torch.inference_mode(False), torch.enable_grad():
            return {
                term: self.network.energy(term)(values[graph.terms[term][0].target], prediction).mean()
                for term, prediction in mu.items()
            }

    def guesses(self, values: Values) -> dict[str, Tensor]:
        """How far each learned first guess is from the states, by ``start:EDGE``.

        That is half the squared error between the state of its target and the guess made from the states of
        its sources, all of them constants; summed over units, averaged over the batch. A guess so learns
        from the two ends of its own edge, as in Tschantz et al. 2023, "Hybrid predictive coding: Inferring,
        fast and slow", figure 2.
        """
        losses = {}
        with torch.inference_mode(False), torch.enable_grad():
            constants = {name: value.detach() for name, value in values.items()}
            for edge in self.network.graph.starts.values():
                error = constants[edge.target] - self.network.starts[edge.name](*read(edge, constants))
                losses[f"start:{edge.name}"] = error.square().sum() / (2 * len(error))
        return losses

    def pulls(self, predictions: Predictions, values: Values, terms: Collection[str]) -> dict[str, Tensor]:
        """How the errors of some terms move the states that predict them: ``J^T precision (x - g(mu))``.

        The errors are those of the states ``values``; the Jacobians stay those of ``predictions``.
        """
        graph, states = self.network.graph, predictions.states
        outputs, cotangents = [], []
        for term in terms:
            mu, energy = predictions.mu[term], self.network.energy(term)
            if mu.requires_grad:
                outputs.append(mu)
                with torch.no_grad():
                    error = energy.error(values[graph.terms[term][0].target], mu)
                    cotangents.append(energy.weighted(error))
        if not outputs:
            return {}
        found = torch.autograd.grad(
            outputs, list(states.values()), cotangents, retain_graph=True, allow_unused=True
        )
        return {node: pull for node, pull in zip(states, found, strict=True) if pull is not None}

    def levels(self, rule: str, fixed: frozenset[str]) -> list[list[str]]:
        """The error terms from the outputs down: each level waits for all that its targets predict.

        Args:
            rule: The rule that asks, for messages.
            fixed: The clamped nodes.

        Raises:
            InputError: The graph is none that backpropagation could follow: it has a cycle, a node with
                several error terms, or states that do not start at their predictions.
        """
        graph = self.network.graph

        def refuse(problem: str) -> InputError:
            message = f"rule '{rule}' goes the way of backpropagation, and {problem}"
            return InputError(Fault(message, hint="Rules 'il' and 'ipc' learn on any graph."))

        view = nx.DiGraph(graph.to_networkx())
        if not nx.is_directed_acyclic_graph(view):
            around = [arc[0] for arc in nx.find_cycle(view)]
            raise refuse(f"the graph has the cycle {' -> '.join([*around, around[0]])}")
        for node in graph.nodes:
            if len(graph.terms_into(node)) > 1:
                raise refuse(
                    f"node '{node}' has {len(graph.terms_into(node))} errors: give its edges a bundle"
                )
            if graph.terms_into(node, "feedback"):
                raise refuse(f"node '{node}' is predicted by feedback")
            for term in graph.terms_into(node) if node not in fixed else ():
                if not self.network.energy(term).is_gaussian:
                    raise refuse(f"node '{node}' is free and its energy is not gaussian")
        if self.network.spec.schedule.initial != "feedforward":
            raise refuse("'schedule.initial' is not feedforward")
        generations = nx.topological_generations(view.reverse())
        return [[term for node in nodes for term in graph.terms_into(node)] for nodes in generations]


def _summed(predictions: Iterable[Tensor]) -> Tensor:
    first, *others = predictions
    for other in others:
        first = first + other
    return first
