"""Which edge mattered: what the network does without it, and how its loss follows each gain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcgraph.analysis.inputs import Inputs, losses, scores_of
from pcgraph.analysis.lesion import lesioned, terms_of_predictors, with_dynamics
from pcgraph.dynamics.gains import Dynamics, Gains, Pair, Scalar
from pcgraph.network import PCNetwork
from pcgraph.scheduler import Scheduler
from pcgraph.simulation.recording import Run
from pcgraph.state import State


@dataclass(frozen=True)
class LesionEffect:
    """What an error term does for a network: the network without it, less the network with it.

    Attributes:
        term: What was taken out: its edges neither draw their target nor move their sources.
        loss: By how much the mean loss rises; see `losses`. NaN where a state is not finite.
        changed: Of the images, the share whose last answer is another one; NaN without class scores.
        accuracy: By how much the share of right answers falls (it rises where negative); NaN without labels.
        moved: By node, how far its last state is from that of the whole network, as a share of that one's
            norm; the mean over the images.
    """

    term: str
    loss: float
    changed: float
    accuracy: float
    moved: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GainGradient:
    """How the mean loss follows one gain of a network.

    Attributes:
        edge: The error term, for the gain ``a`` with which it draws its target; or the edge, for the gain
            ``b`` with which its error moves a source.
        source: That source; empty for ``a``.
        gain: The gain.
        gradient: Derivative of the mean loss for the gain.
    """

    edge: str
    source: str
    gain: float
    gradient: float


def lesion_effects(network: PCNetwork, inputs: Inputs) -> Iterator[LesionEffect]:
    """Take every error term out, one at a time, that the backbone does not compute.

    Args:
        network: With its weights.
        inputs: What it is run on; see `Inputs.classes` for those without labels.

    Raises:
        InputError: The inputs do not fit.
    """
    whole = Scheduler(network)
    classes = inputs.classes(whole)
    before = inputs.run(whole)
    for term in terms_of_predictors(network):
        after = inputs.run(Scheduler(lesioned(network, term)))
        rise = losses(after, classes).mean() - losses(before, classes).mean()
        accuracy = math.nan
        if inputs.labels is not None and classes is not None:
            accuracy = _right(before, classes) - _right(after, classes)
        yield LesionEffect(
            term, float(rise), _changed(before, after), accuracy, _moved(before.state, after.state)
        )


def gain_gradients(network: PCNetwork, inputs: Inputs) -> list[GainGradient]:
    """The gradient of the mean loss for the gains of every edge that the backbone does not compute.

    By automatic differentiation through the whole run. Gains that move the input, which is held, are left
    out, and so are gains ``b`` of zero: such an error is not carried back at all.

    Args:
        network: With its weights.
        inputs: What it is run on.

    Raises:
        InputError: The inputs do not fit.
    """
    classes = inputs.classes(Scheduler(network))
    rule = _Shifted(network, len(inputs.images))
    run = inputs.run(Scheduler(with_dynamics(network, rule)), differentiable=True)
    with torch.enable_grad():
        loss = losses(run, classes).mean()
    leaves = list(rule.shifts.values())
    found = torch.autograd.grad(loss, leaves, materialize_grads=True) if loss.requires_grad else leaves
    return [
        GainGradient(*key, float(rule.whole[key]), float(gradient))
        for key, gradient in zip(rule.shifts, found, strict=True)
    ]


class _Shifted(Dynamics):
    """The rule of a network with a number added to every gain of its predictors' edges.

    Attributes:
        whole: The gains without it, by term (or edge) and source (or "").
        shifts: What is added: zeros that require gradients.
    """

    def __init__(self, network: PCNetwork, batch: int) -> None:
        super().__init__()
        self.rule, self.descent = network.dynamics, network.dynamics.descent
        terms = terms_of_predictors(network)
        edges = {edge.name for term in terms for edge in network.graph.terms[term]}
        gains = self.rule.gains(batch)
        held, targets = network.graph.receiver, {term: network.graph.terms[term][0].target for term in terms}
        drawn = {(term, ""): gains.target[term] for term in terms if targets[term] != held}
        pulled = {pair: gain for pair, gain in gains.source.items() if pair[0] in edges and pair[1] != held}
        self.whole: dict[Pair, Scalar] = {**drawn, **pulled}
        zero = torch.zeros((), dtype=network.dtype, device=network.device)
        self.shifts = {key: zero.clone().requires_grad_() for key in self.whole}

    def gains(self, batch: int) -> Gains:
        """See `Dynamics.gains`."""
        whole = self.rule.gains(batch)
        target = {name: self._shifted((name, ""), gain) for name, gain in whole.target.items()}
        source = {pair: self._shifted(pair, gain) for pair, gain in whole.source.items()}
        return Gains(target, source, whole.scale)

    def _shifted(self, key: Pair, gain: Scalar) -> Scalar:
        return gain + self.shifts[key] if key in self.shifts else gain


def _right(run: Run, classes: Tensor) -> float:
    scores = scores_of(run)
    return math.nan if scores is None else float((scores.argmax(dim=1) == classes).double().mean())


def _changed(before: Run, after: Run) -> float:
    one, other = scores_of(before), scores_of(after)
    if one is None or other is None:
        return math.nan
    return float((one.argmax(dim=1) != other.argmax(dim=1)).double().mean())


def _moved(before: State, after: State) -> dict[str, float]:
    """By node, how far one state is from the other, as a share of its norm; the mean over the images."""
    found = {}
    for name, value in before.values.items():
        if name not in before.fixed:
            whole = torch.linalg.vector_norm(value.double().flatten(1), dim=1)
            apart = torch.linalg.vector_norm((after.values[name] - value).double().flatten(1), dim=1)
            found[name] = float(torch.where(apart == 0, 0.0, apart / whole).mean())
    return found
