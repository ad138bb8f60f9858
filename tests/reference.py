"""A slow and obvious implementation of the dynamics, written from the equations alone: the oracle.

It keeps every state of the whole simulation, computes every prediction anew each time that it is
needed, and takes one `torch.autograd.grad` an edge and source. It shares no code with the package but
the spec's own fields and the predictors, which are called as plain functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcgraph.spec.dynamics import PredifyDynamics
from pcgraph.spec.edge import Edge as EdgeSpec
from pcgraph.spec.schema import Spec

Function = Callable[..., Tensor]
Values = dict[str, Tensor]


@dataclass(eq=False)
class Edge:
    """A prediction of `target` from `sources`, with everything that the equations say about it."""

    sources: tuple[str, ...]
    target: str
    kind: str
    function: Function
    delay: int
    bundle: str
    gain: float | None = None
    error: float | None = None
    energy: str = "gaussian"
    precision: float | tuple[float, ...] = 1.0
    reach: float | None = None
    drive: bool = False

    @property
    def name(self) -> str:
        return "+".join(self.sources) + "->" + self.target


@dataclass
class Record:
    """Everything at every step, in the layout of `pcgraph.Run`."""

    values: dict[str, list[Tensor]] = field(default_factory=dict)
    predictions: dict[str, list[Tensor]] = field(default_factory=dict)
    errors: dict[str, list[Tensor]] = field(default_factory=dict)
    energy: dict[str, list[Tensor]] = field(default_factory=dict)
    gradients: dict[str, list[Tensor]] = field(default_factory=dict)


def written_edges(spec: Spec, functions: Mapping[str, Function]) -> list[Edge]:
    """The edges that a spec spells out, `edges:` first and then `feedback:`."""
    edges = []
    for kind, items in (("feedforward", spec.edges), ("feedback", spec.feedback)):
        for item in items:
            assert isinstance(item, EdgeSpec), "the reference knows no patterns; spell the edges out"
            default = 0 if spec.schedule.order == "sweep" and kind == "feedforward" else 1
            name = "+".join(item.sources) + "->" + item.target
            edges.append(
                Edge(
                    sources=item.sources,
                    target=item.target,
                    kind=kind,
                    function=functions[name],
                    delay=default if item.delay is None else item.delay,
                    bundle=name if item.bundle is None else item.bundle,
                    gain=item.gain,
                    error=item.error,
                    energy=item.energy,
                    precision=item.precision,
                    reach=item.reach,
                )
            )
    return edges


class Reference:
    """A network of states tied by predictions, simulated as the equations are written.

    Args:
        spec: The spec; its dynamics and nodes are read, its edges only through `edges`.
        shapes: Shape of every node, without the batch; the receiver of the images comes first.
        edges: All edges.
        first_order: Treat what errors carry back to the sources as constants.
    """

    def __init__(
        self,
        spec: Spec,
        shapes: Mapping[str, tuple[int, ...]],
        edges: Sequence[Edge],
        first_order: bool = False,
    ) -> None:
        self.dynamics = spec.dynamics
        self.initial = spec.schedule.initial
        self.order = spec.schedule.order
        self.shapes = dict(shapes)
        self.edges = list(edges)
        self.first_order = first_order
        self.terms: dict[str, list[Edge]] = {}
        for edge in edges:
            self.terms.setdefault(edge.bundle, []).append(edge)
        self.beginning: Values = {}
        self.history: list[Values] = []
        self.held: dict[str, Tensor | bool] = {}
        self.counted: dict[str, int] = {}

    # ---- gains ------------------------------------------------------------------------------------

    def own(self, node: str, name: str) -> float:
        """beta, lambda, alpha or rate of one node: its own value, else the value for all nodes."""
        if node in self.dynamics.nodes:
            value = getattr(self.dynamics.nodes[node], name)
            if value is not None:
                return value
        return getattr(self.dynamics, name)

    def gain(self, term: str) -> float:
        """a: how strongly the term draws its target."""
        first = self.terms[term][0]
        if not isinstance(self.dynamics, PredifyDynamics):
            return self.own(first.target, "rate")
        if first.gain is not None:
            return first.gain
        sharing = 0
        for members in self.terms.values():
            other = members[0]
            if other.target == first.target and other.kind == first.kind and other.gain is None:
                sharing += 1
        if first.kind == "feedback" and self.dynamics.share.feedback == "edge":
            sharing = 1
        return self.own(first.target, first.kind) / sharing

    def error_gain(self, edge: Edge, source: str) -> float:
        """b: how strongly the error moves the source."""
        if edge.delay == 0:
            return 0.0
        if not isinstance(self.dynamics, PredifyDynamics):
            return self.own(source, "rate")
        if edge.error is not None:
            return edge.error
        if edge.kind != "feedback":
            return 0.0
        sharing = 1
        if self.dynamics.share.error == "source":
            out = [other for other in self.edges if other.kind == "feedback" and other.error is None]
            sharing = len([other for other in out if source in other.sources and other.delay > 0])
        return self.own(source, "error") / sharing

    def scale(self, edge: Edge, prediction: Tensor) -> float:
        """s: the scale of the gradient."""
        if not isinstance(self.dynamics, PredifyDynamics) or self.dynamics.gradient == "sum":
            return 1.0
        if self.dynamics.gradient == "mean":
            return 2.0 / prediction.numel()
        return 2.0 / self.reach(edge) ** 0.5

    def reach(self, edge: Edge) -> float:
        """C, given, or counted in the Jacobian's column of the central unit of the first source.

        The counted value is the spec's C where no last activation hides a unit (no ReLU).
        """
        if edge.reach is not None:
            return edge.reach
        if edge.name not in self.counted:
            generator = torch.Generator().manual_seed(7)
            shapes = [(1, *self.shapes[name]) for name in edge.sources]
            states = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
            with torch.enable_grad():
                jacobian = torch.autograd.functional.jacobian(edge.function, tuple(states), vectorize=True)[0]
            centre = (0, *(size // 2 for size in self.shapes[edge.sources[0]]))
            self.counted[edge.name] = max(1, int((jacobian[(..., *centre)] != 0).sum()))
        return self.counted[edge.name]

    # ---- time -------------------------------------------------------------------------------------

    def past(self, time: int) -> Values:
        """The states at a time; before the start they were what they are at the start."""
        return self.history[time] if time >= 0 else self.beginning

    def predict(self, edge: Edge, states: Values) -> Tensor:
        return edge.function(*[states[name].clone() for name in edge.sources])

    def pull(self, edge: Edge, source: str, time: int) -> Tensor:
        """``s_e J_e^T xi`` for one source, in the step that leaves `time`."""
        read = self.past(time + 1 - edge.delay)
        inputs = {}
        for name in edge.sources:
            copy = read[name].clone()
            inputs[name] = copy if copy.requires_grad else copy.requires_grad_()
        with torch.enable_grad():
            prediction = edge.function(*[inputs[name] for name in edge.sources])
        first = self.terms[edge.bundle][0]
        xi = self.precision(first) * self.error(edge.bundle, time)
        (pulled,) = torch.autograd.grad(
            prediction, inputs[source], xi, create_graph=torch.is_grad_enabled(), allow_unused=True
        )
        if pulled is None:
            pulled = torch.zeros_like(inputs[source])
        pulled = self.scale(edge, prediction) * pulled
        return pulled.detach() if self.first_order else pulled

    def prediction(self, edge: Edge, time: int) -> Tensor:
        """What the edge predicts at a time, from what the step that leaves this time reads."""
        if edge.delay == 0:
            return self.predict(edge, self.past(time))
        return self.predict(edge, self.past(time + 1 - edge.delay))

    def mu(self, term: str, time: int) -> Tensor:
        """The sum of the term's predictions."""
        total: Tensor | float = 0.0
        for edge in self.terms[term]:
            total = total + self.prediction(edge, time)
        assert isinstance(total, Tensor)
        return total

    def error(self, term: str, time: int) -> Tensor:
        """``x_target - mu`` at a time; for other energies what their slope in mu is instead."""
        first = self.terms[term][0]
        return -self.slopes(first, self.past(time)[first.target], self.mu(term, time))[1]

    def precision(self, edge: Edge) -> Tensor:
        """Precision of every unit of the target: a number, or one for each entry of its first dimension."""
        shape = self.shapes[edge.target]
        if isinstance(edge.precision, tuple):
            column = torch.tensor(edge.precision, dtype=torch.float64)
            return column.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
        return torch.full(shape, edge.precision, dtype=torch.float64)

    def cost(self, edge: Edge, x: Tensor, mu: Tensor) -> Tensor:
        """The energy of every unit, with a precision of 1."""
        if edge.energy == "categorical":  # cross-entropy of the probabilities x and the logits mu
            return -x * torch.log(torch.exp(mu) / torch.exp(mu).sum(dim=1, keepdim=True))
        if edge.energy == "bernoulli":
            on, off = 1 / (1 + torch.exp(-mu)), 1 / (1 + torch.exp(mu))
            return -x * torch.log(on) - (1 - x) * torch.log(off)
        return 0.5 * (x - mu) ** 2

    def slopes(self, edge: Edge, x: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """The cost's derivatives for x and for mu; ``x - mu`` and ``mu - x`` for squared errors."""
        if edge.energy == "gaussian":
            return x - mu, mu - x
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x, mu = (v.clone() if v.requires_grad else v.clone().requires_grad_() for v in (x, mu))
            cost = self.cost(edge, x, mu).sum()
        by_x, by_mu = torch.autograd.grad(cost, [x, mu], create_graph=keep)
        return by_x, by_mu

    def step(self, time: int) -> Values:
        """The states at ``time + 1`` from the history up to `time`."""
        before = self.past(time)
        after: Values = {}
        while len(after) < len(self.shapes):
            for node in self.shapes:
                if node in after or not self.is_ready(node, after):
                    continue
                change = torch.zeros_like(before[node])
                for term, members in self.terms.items():
                    if members[0].target != node:
                        continue
                    mu: Tensor | float = 0.0
                    for edge in members:
                        states = after if edge.delay == 0 else self.past(time + 1 - edge.delay)
                        mu = mu + self.predict(edge, states)
                    assert isinstance(mu, Tensor)
                    slope = self.slopes(members[0], before[node], mu)[0]
                    change = change - self.gain(term) * self.precision(members[0]) * slope
                for edge in self.edges:
                    if node in edge.sources and self.error_gain(edge, node) != 0:
                        change = change + self.error_gain(edge, node) * self.pull(edge, node, time)
                after[node] = self.hold(node, before[node], before[node] + change)
        return after

    def is_ready(self, node: str, after: Values) -> bool:
        """Whether everything that delay-0 edges into the node read was updated."""
        for edge in self.edges:
            if edge.target == node and edge.delay == 0:
                for source in edge.sources:
                    if source not in after:
                        return False
        return True

    def hold(self, node: str, before: Tensor, after: Tensor) -> Tensor:
        held = self.held.get(node, False)
        if held is True:
            return before
        if held is False:
            return after
        return torch.where(held, before, after)

    def turn(self, time: int, blocks: Sequence[Collection[str]]) -> Values:
        """The states at ``time + 1`` when blocks of nodes move one after the other on the newest states."""
        before = self.history[time]
        for block in blocks:
            moved = self.step(time)
            newest = self.history[time]
            self.history[time] = {n: moved[n] if n in block else newest[n] for n in newest}
        after = self.history[time]
        self.history[time] = before
        return after

    # ---- start ------------------------------------------------------------------------------------

    def start(
        self,
        given: Mapping[str, Tensor],
        mask: Mapping[str, Tensor],
        free: Collection[str],
        batch: int,
        initial: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Set the states at time 0.

        Args:
            given: Values of the receiver and of clamped or free nodes.
            mask: True where a given node is held; the rest of it starts as if it were not given.
            free: Given nodes that start at their value and move.
            batch: Number of images.
            initial: Start values of the nodes that are not given, instead of the spec's.
        """
        self.held = {}
        values: Values = {}
        for node in self.start_order():
            shape = (batch, *self.shapes[node])
            if initial is not None:
                value = initial[node]
            elif self.initial == "feedforward":
                value = self.feedforward_value(node, values, shape)
            else:
                value = torch.zeros(shape, dtype=torch.float64)
            if node in given and node not in mask:
                value = given[node]
            if node in mask:
                value = torch.where(mask[node], given[node], value)
            if node in given and node not in free:
                self.held[node] = mask.get(node, True)
            values[node] = value
        self.beginning = {node: values[node] for node in self.shapes}
        self.history = [self.beginning]

    def feedforward_value(self, node: str, values: Values, shape: tuple[int, ...]) -> Tensor:
        """The mean of what the feedforward predictions expect, weighted by precision.

        Zero where there is none.
        """
        total = torch.zeros(shape, dtype=torch.float64)
        weight = torch.zeros(shape, dtype=torch.float64)
        for members in self.terms.values():
            usable = [edge for edge in members if edge in self.starting() and not self.in_cycle(edge)]
            if members[0].target == node and usable:
                mu = torch.zeros(shape, dtype=torch.float64)
                for edge in usable:
                    mu = mu + self.predict(edge, values)
                if members[0].energy == "categorical":
                    mu = mu.softmax(dim=1)
                if members[0].energy == "bernoulli":
                    mu = mu.sigmoid()
                total = total + self.precision(members[0]) * mu
                weight = weight + self.precision(members[0])
        return torch.where(weight > 0, total / torch.where(weight > 0, weight, 1.0), 0.0)

    def starting(self) -> list[Edge]:
        """The edges that the start reads: the feedforward ones.

        A backbone's nodes start as in the plain network: there its own prediction alone counts, and
        for its image none does.
        """
        plain = [edge.target for edge in self.edges if edge.drive]
        if plain:
            plain.append(next(iter(self.shapes)))
        return [e for e in self.edges if e.drive or (e.kind == "feedforward" and e.target not in plain)]

    def reachable(self, node: str) -> set[str]:
        """Nodes that one or more of these edges lead to from a node."""
        found: set[str] = set()
        frontier = [node]
        while frontier:
            one = frontier.pop()
            for edge in self.starting():
                if one in edge.sources and edge.target not in found:
                    found.add(edge.target)
                    frontier.append(edge.target)
        return found

    def in_cycle(self, edge: Edge) -> bool:
        """Whether one of the edge's sources lies in a cycle with its target."""
        return any(source in self.reachable(edge.target) for source in edge.sources)

    def start_order(self) -> list[str]:
        """The nodes, each after all those that lead to it but not back."""
        order: list[str] = []
        while len(order) < len(self.shapes):
            for node in self.shapes:
                upstream = [
                    m for m in self.shapes if node in self.reachable(m) and m not in self.reachable(node)
                ]
                if node not in order and all(other in order for other in upstream):
                    order.append(node)
        return order

    # ---- a run ------------------------------------------------------------------------------------

    def run(self, steps: int) -> Record:
        """Make some steps from the start, and record everything at each."""
        for time in range(steps):
            if isinstance(self.order, str):
                self.history.append(self.step(time))
                continue
            named = [node for block in self.order for node in block]
            rest = [node for node in self.shapes if node not in named]
            self.history.append(self.turn(time, [*self.order, rest]))
        record = Record()
        for time, values in enumerate(self.history):
            for node, value in values.items():
                record.values.setdefault(node, []).append(value)
            for edge in self.edges:
                record.predictions.setdefault(edge.name, []).append(self.prediction(edge, time))
            for term, members in self.terms.items():
                error = self.error(term, time)
                cost = self.cost(members[0], values[members[0].target], self.mu(term, time))
                energy = (self.precision(members[0]) * cost).flatten(1).sum(dim=1)
                record.errors.setdefault(term, []).append(error)
                record.energy.setdefault(term, []).append(energy)
            for node in values:
                if self.held.get(node) is True:
                    continue  # no error moves it
                pulls = [
                    self.pull(edge, node, time)
                    for edge in self.edges
                    if node in edge.sources and self.error_gain(edge, node) != 0
                ]
                if pulls:
                    record.gradients.setdefault(node, []).append(-sum(pulls))
        return record
