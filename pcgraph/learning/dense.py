"""Inference of layered dense networks with both ends clamped, in plain matrix algebra.

The numbers are the scheduler's, to rounding; only fewer of them are computed. Let ``n1`` be the first
layer that moves. What is predicted of it rests, and what it predicts is ``f(W n1 + b)``, so

    n1(t) = mu_1 + W^T s(t) / precision,    s(t+1) = s(t) + rate * precision * (delta(t) - s(t)),

with ``delta`` the weighted error of the layer above times ``f'``, and ``s(0) = 0``, since inference starts at
the predictions. The layer above then needs ``W n1 + b = (W mu_1 + b) + W W^T s / precision`` alone: each
step multiplies with the small square matrix ``W W^T`` in place of twice with the large ``W``, and ``n1``
itself is formed once, at the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pcgraph.dynamics.energies import TermEnergy
from pcgraph.errors import DivergenceError
from pcgraph.network import PCNetwork
from pcgraph.predictors.fast.plain import is_plain
from pcgraph.spec import EnergyDynamics
from pcgraph.state import State
from pcgraph.tracing.numberless import has_numbers

aten = torch.ops.aten
# The error times f'(z), by activation: of the error, of z and of f(z).
BACKWARD: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.Tanh: lambda error, z, mu: aten.tanh_backward(error, mu),
    nn.Sigmoid: lambda error, z, mu: aten.sigmoid_backward(error, mu),
    nn.ReLU: lambda error, z, mu: aten.threshold_backward(error, z, 0),
    nn.Identity: lambda error, z, mu: error,
}


@dataclass(frozen=True)
class Layer:
    """A dense edge.

    Attributes:
        source: The node that it reads.
        target: The node that it predicts.
        linear: Its matrix and bias.
        activation: What follows them.
        energy: What its error costs.
    """

    source: str
    target: str
    linear: nn.Linear
    activation: nn.Module
    energy: TermEnergy

    def push(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted error of the prediction f(z), and the same times f'(z)."""
        mu = self.activation(z)
        error = self.energy.weighted(self.energy.error(target, mu))
        return error, BACKWARD[type(self.activation)](error, z, mu)


class Layered:
    """The dense layers above the first one that moves.

    Attributes:
        layers: From the bottom up.
        rate: By node.
        precision: Of the prediction of the first one's source.
    """

    def __init__(self, layers: list[Layer], rate: dict[str, float], precision: float) -> None:
        self.layers = layers
        self.rate = rate
        self.precision = precision

    @classmethod
    def find(cls, network: PCNetwork, fixed: frozenset[str]) -> Layered | None:
        """The layers of a network, if it is such a one and its two ends are clamped."""
        spec, graph, dynamics = network.spec, network.graph, network.spec.dynamics
        rate: dict[str, float] = getattr(network.dynamics, "rate", {})
        plain = (
            network.drive is None
            and isinstance(dynamics, EnergyDynamics)
            and dynamics.model_dump(exclude_defaults=True, exclude={"rate", "nodes"}).keys() <= {"rule"}
            and all(
                node.model_dump(exclude_defaults=True).keys() <= {"rate"} for node in dynamics.nodes.values()
            )
            and spec.schedule.model_dump(exclude_defaults=True, exclude={"steps"}) == {}
        )
        order = [name for name, _ in graph.feedforward_order] if plain else []
        if len(order) < 3 or fixed != {order[0], order[-1]} or len(graph.edges) != len(order) - 1:
            return None
        layers: list[Layer] = []
        for source, target in itertools.pairwise(order):
            edge = graph.edges.get(f"{source}->{target}")
            if edge is None or edge.kind != "feedforward" or edge.delay != 1:
                return None
            energy = network.energy(edge.bundle)
            if not energy.number > 0 or not (energy.is_gaussian or target == order[-1]):
                return None
            if source != order[0]:
                found = _dense(network.predictors[edge.name])
                if found is None or len(graph.nodes[source].shape) > 1:
                    return None
                layers.append(Layer(source, target, *found, energy))
        first = layers[0]
        if first.linear.out_features > 2 * first.linear.in_features:
            return None  # then the square matrix is no gain
        below = network.energy(graph.terms_into(first.source)[0])
        return cls(layers, rate, below.number)

    def settle(self, state: State, steps: int) -> State:
        """The state after some steps from the start.

        Raises:
            DivergenceError: A state is not finite after the last step.
        """
        with torch.inference_mode(False), torch.no_grad():
            course = _Course(self, state)
            for _ in range(steps):
                course.step()
            return replace(state, values=course.end(state.step + steps), step=state.step + steps)


class _Course:
    """The steps of one inference: s of the first layer and the states of the others move in place."""

    def __init__(self, layered: Layered, state: State) -> None:
        self.first, *self.rest = layered.layers
        self.rate, self.scale = layered.rate, 1 / layered.precision
        self.share = layered.rate[self.first.source] * layered.precision
        self.values = {name: value.detach() for name, value in state.values.items()}
        for layer in self.rest:
            self.values[layer.source] = self.values[layer.source].clone()
        weight = self.first.linear.weight
        self.base, self.square = self.first.linear(self.values[self.first.source]), weight @ weight.T
        self.summed = torch.zeros_like(self.base)

    def step(self) -> None:
        """All states move once, each by the errors of the same old states."""
        values = self.values
        z = torch.addmm(self.base, self.summed, self.square, alpha=self.scale)
        pushed = [self.first.push(z, values[self.first.target])]
        pushed += [one.push(one.linear(values[one.source]), values[one.target]) for one in self.rest]
        self.summed.lerp_(pushed[0][1], self.share)
        for (error, _), layer, (_, delta) in zip(pushed, self.rest, pushed[1:], strict=False):
            rate = self.rate[layer.source]
            values[layer.source].sub_(error, alpha=rate).addmm_(delta, layer.linear.weight, alpha=rate)

    def end(self, step: int) -> dict[str, Tensor]:
        """The states, the first layer's among them."""
        source = self.first.source
        # the first layer's state is larger, and as finite as what it is made of
        moved = {source: self.summed} | {one.source: self.values[one.source] for one in self.rest}
        for node, value in moved.items():
            if has_numbers(value) and not torch.isfinite(value).all():
                raise DivergenceError(node, step)
        start = self.values[source]
        formed = torch.addmm(start, self.summed, self.first.linear.weight, alpha=self.scale)
        return {**self.values, source: formed}


def _dense(predictor: nn.Module) -> tuple[nn.Linear, nn.Module] | None:
    """The matrix and the activation of ``[Linear]`` or ``[Linear, activation]``."""
    if not is_plain(*predictor.modules()):
        return None
    layers = list(predictor) if type(predictor) is nn.Sequential else [predictor]
    if len(layers) == 1:
        layers.append(nn.Identity())
    if len(layers) != 2 or type(layers[0]) is not nn.Linear or type(layers[1]) not in BACKWARD:
        return None
    return layers[0], layers[1]
