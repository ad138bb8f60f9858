"""Learning rules: where the states are when the weights move.

A rule infers the states of one batch and yields, each time that the weights shall move, the states and
the energy of each error term as a function of the weights; the rules that follow inference add what the
first guesses of the states learn from. What is done with it is the loop's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from pcgraph.learning.local import Local, Values
from pcgraph.state import State
from pcgraph.training.gradients import Differentiated

RuleName = Literal["il", "ipc", "fpa", "zil", "bp"]


@dataclass(frozen=True)
class Moment:
    """When the weights move.

    Attributes:
        values: The states, (batch, *shape) by node.
        energy: The energy of each error term, averaged over the batch.
        start: What the learned first guesses are from these states; see `Local.guesses`.
        gradients: Of the sum of all losses, by parameter, where they are known already.
        moved: Whether the weights have moved already.
    """

    values: Values
    energy: Mapping[str, Tensor]
    start: Mapping[str, Tensor] = field(default_factory=dict)
    gradients: Mapping[str, Tensor] | None = None
    moved: bool = False

    @property
    def losses(self) -> dict[str, Tensor]:
        """All that is differentiated."""
        losses = {**self.energy, **self.start}
        return losses if self.gradients is None else Differentiated(losses, list(self.gradients.values()))


def il(local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
    """Inference learning: the weights move once, after the states have settled.

    Whittington and Bogacz 2017, algorithm 1, on any graph.
    """
    state = local.settle(clamp, steps)
    yield _moment(local, state)


def ipc(local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
    """Incremental predictive coding: the weights move after every step of the states.

    Salvatori et al. 2024, "A stable, fast, and fully automatic learning algorithm for predictive coding
    networks".
    """
    state = local.scheduler.start(clamp=clamp)
    for _ in range(steps):
        state = local.scheduler.step(local.scheduler.refresh(state))
        yield _moment(local, state)


def fpa(local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
    """Fixed prediction assumption: predictions and Jacobians stay as they were before inference.

    Once the errors have settled, the weights' gradients are backpropagation's (Millidge et al. 2020,
    "Predictive coding approximates backprop along arbitrary computation graphs", algorithm 1).
    """
    state = local.scheduler.start(clamp=clamp)
    terms = [term for level in local.levels("fpa", state.fixed) for term in level]
    predictions = local.predict(state)
    values, graph = dict(state.values), local.network.graph
    for _ in range(steps):
        pulls = local.pulls(predictions, values, terms)
        for term in terms:
            node = graph.terms[term][0].target
            if node not in state.fixed:
                force = local.network.energy(term).force(values[node], predictions.mu[term].detach())
                values[node] = values[node] + local.rate[node] * (pulls.get(node, 0.0) - force.detach())
    yield Moment(values, local.energies(predictions.mu, values))


def zil(local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
    """Zero-divergence inference learning: one level a step, from the outputs down, at rate 1 / precision.

    A term's error is sent on, and its weights move, at the step when it first is not zero any more:
    nothing below has moved yet, so every Jacobian is that of the plain network, and the gradients are
    backpropagation's (Song et al. 2020, "Can the brain do backpropagation?", algorithm 2; Salvatori et
    al. 2022, "Reverse differentiation via predictive coding", for graphs whose paths differ in length).
    ``steps`` has no effect: there are as many as levels.
    """
    state = local.scheduler.start(clamp=clamp)
    levels = local.levels("zil", state.fixed)
    predictions = local.predict(state)
    values, graph = dict(state.values), local.network.graph
    for terms in levels:
        for node, pull in local.pulls(predictions, values, terms).items():
            for term in graph.terms_into(node) if node not in state.fixed else ():
                values[node] = values[node] + pull / local.network.energy(term).precision
    yield Moment(values, local.energies(predictions.mu, values))


def bp(local: Local, clamp: Values, steps: int) -> Iterator[Moment]:
    """Backpropagation, as the control: the loss is the energy of the clamped nodes' terms.

    The states are those of the plain network, and the gradient runs through all of them.
    """
    state = local.scheduler.start(clamp=clamp, differentiable=True)
    local.levels("bp", state.fixed)
    losses = [name for node in state.fixed for name in local.network.graph.terms_into(node)]
    mu = local.predict(state, losses, through=True).mu
    yield Moment({n: value.detach() for n, value in state.values.items()}, local.energies(mu, state.values))


def _moment(local: Local, state: State) -> Moment:
    energies = local.energies(local.predict(state).mu, state.values)
    return Moment(state.values, energies, local.guesses(state.values))


Rule = Callable[[Local, Values, int], Iterator[Moment]]
RULES: dict[str, Rule] = {"il": il, "ipc": ipc, "fpa": fpa, "zil": zil, "bp": bp}
