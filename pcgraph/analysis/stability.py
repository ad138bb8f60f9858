"""Whether the dynamics hold: how strong the error step of each edge is, and what a whole step does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pcgraph.analysis.jacobian import StepJacobian
from pcgraph.dynamics.automatic import Carried
from pcgraph.dynamics.eigenvalues import largest_eigenvalue
from pcgraph.dynamics.gains import Predify
from pcgraph.errors import Fault, InputError
from pcgraph.network import PCNetwork
from pcgraph.predictors.error_strength import measure_carried
from pcgraph.scheduler import Scheduler
from pcgraph.state import State


@dataclass(frozen=True)
class EdgeLimit:
    """How strong the error step of an edge is for one of its sources.

    With all else at rest the step of the source is ``x <- (k - b s J^T J) x + ...``, with k the share of
    itself that it keeps. It overshoots further and further where ``b s |J|^2`` exceeds ``1 + k``.

    Attributes:
        edge: The edge.
        source: The source.
        gain: b, the gain that it has.
        limit: The gain at which this edge alone would run away.
    """

    edge: str
    source: str
    gain: float
    limit: float

    @property
    def share(self) -> float:
        """Of the limit; the shares of a source's edges add up, and must stay below 1."""
        if self.limit:
            return self.gain / self.limit
        return math.inf if self.gain else 0.0


def edge_limits(network: PCNetwork, start: Mapping[str, Tensor] | None = None) -> list[EdgeLimit]:
    """The limits of all predictors that carry errors back; the backbone's own edges are not looked at.

    Exact for predictors that are linear up to their last activation, which is left out. Of others the
    Jacobian is the one at the states given.

    Args:
        network: A network of rule `predify`, with its weights.
        start: States, (batch, *shape) by node; left out, standard normal ones.

    Raises:
        InputError: Another rule.
    """
    if not isinstance(network.dynamics, Predify):
        hint = "Of rule 'energy' see stability_margin."
        raise InputError(Fault("limits of single edges belong to rule 'predify'", ("dynamics", "rule"), hint))
    return limits_of(network.dynamics, measure_carried(network.graph, network.predictors, start))


def limits_of(rule: Predify, carried: Mapping[tuple[str, str], Carried]) -> list[EdgeLimit]:
    """The limits of edges of which it is known what they carry, by edge and source."""
    gains = rule.gains(1)
    found = []
    for (name, node), one in carried.items():
        gain = float(gains.source.get((name, node), 0.0))
        kept = 1 - sum(float(gains.target[term]) for term in rule.graph.terms_into(node))
        scale = rule.scale(rule.graph.edges[name], 1)
        if one.stretch:
            found.append(EdgeLimit(name, node, gain, (1 + kept) / (scale * one.stretch)))
    return found


def spectral_radius(scheduler: Scheduler, state: State, *, tolerance: float = 1e-3, seed: int = 0) -> float:
    """By which factor a small change of a state grows a step, in the long run: |`step_eigenvalue`|.

    Below 1 a linear network settles, above 1 it runs away; of others this tells what happens near the state.
    """
    return abs(step_eigenvalue(scheduler, state, tolerance=tolerance, seed=seed))


def step_eigenvalue(
    scheduler: Scheduler,
    state: State,
    *,
    tolerance: float = 1e-3,
    seed: int = 0,
    size: int = 24,
    restarts: int = 20,
) -> complex:
    """The eigenvalue of largest modulus of the step's Jacobian at a state.

    The space is that of `StepJacobian`. A negative eigenvalue is a state that overshoots, a complex one
    an oscillation.

    Args:
        scheduler: The network's scheduler.
        state: From `Scheduler.start` or `Scheduler.step`.
        tolerance: Of the residual, as a share of the eigenvalue.
        seed: Seed of the iteration's first vector.
        size: Vectors of that space that are kept; see `largest_eigenvalue`.
        restarts: Each takes up to ``size`` vector-Jacobian products of the step.

    Raises:
        InputError: No state moves; or the optimizer is Adam, whose steps are no map of the states alone.
    """
    found = [
        largest_eigenvalue(
            block.transposed, block.random(), size=size, restarts=restarts, tolerance=tolerance
        )
        for block in StepJacobian(scheduler, state, seed=seed).loops()
    ]
    return max(found, key=lambda one: (one != one, abs(one)), default=0j)  # NaN before all


def growth(scheduler: Scheduler, inputs: Tensor, steps: int, enough: float = math.inf) -> dict[str, float]:
    """The largest norm of each state over some steps, as a multiple of its first; at least 1.

    Args:
        scheduler: The network's scheduler.
        inputs: What it is given, (batch, *shape).
        steps: Steps to make.
        enough: Growth beyond which no more steps are made.
    """
    state = scheduler.start(inputs)
    first = _norms(state.values)
    worst = dict.fromkeys(first, 1.0)
    for _ in range(steps):
        state = scheduler.step(state)
        for name, norm in _norms(state.values).items():
            worst[name] = max(worst[name], _ratio(norm, first[name]))
        if not max(worst.values()) <= enough:
            break
    return worst


FASTER = 2.0
"""By so much, at least, changes of states are taken to grow in each step that was not made."""


def stays_within(scheduler: Scheduler, inputs: Tensor, steps: int, bound: float) -> bool:
    """Whether no state grows beyond a multiple of its first norm in some steps.

    No more of them are made than it takes to tell: the others cannot carry a state beyond the bound even if
    each changes it by `FASTER` times as much as the one before, or by more where a state's last change was
    more than that. So a growth that other changes still hide is found if it at most doubles in a step.

    Args:
        scheduler: The network's scheduler; the same rates at every step, and no delay above 1.
        inputs: What it is given, (batch, *shape).
        steps: Steps that are asked about.
        bound: Multiple of the first norm.
    """
    state = scheduler.start(inputs)
    most = {name: bound * norm for name, norm in _norms(state.values).items()}
    changes = dict.fromkeys(most, 0.0)
    for left in reversed(range(steps)):
        before, state = state, scheduler.step(state)
        norms, last = _norms(state.values), changes
        if not all(norms[name] <= most[name] for name in most):
            return False
        changes = _norms({name: value - before.values[name] for name, value in state.values.items()})
        ahead = _sum_of_powers(max(FASTER, *(_ratio(changes[name], last[name]) for name in most)), left)
        if all(norms[name] + ahead * changes[name] <= most[name] for name in most):
            break
    return True


def _norms(values: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.norm()) for name, value in values.items()}


def _sum_of_powers(base: float, count: int) -> float:
    """The powers 1 to ``count`` of a base, added up; infinite rather than too large."""
    total = 0.0
    for _ in range(count):
        total = base * (1 + total)
    return total


def _ratio(norm: float, before: float) -> float:
    if not math.isfinite(norm):
        return math.inf
    return norm / before if before else (math.inf if norm else 1.0)
