"""The scheduler: runs the dynamics of a network, one step at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pcgraph.checkpoint import checkpointed
from pcgraph.dynamics import Gains, Scalar
from pcgraph.errors import DivergenceError
from pcgraph.network import PCNetwork
from pcgraph.plan import Block, Plan
from pcgraph.recording import Request, Run
from pcgraph.start import resting_predictions, start_state
from pcgraph.state import State

Differentiable = bool | Literal["first_order"]


@dataclass
class Evaluation:
    """What the edges say of one state.

    Attributes:
        predictions: By edge.
        errors: ``target - prediction`` by error term.
        pulls: ``J_e^T xi_e`` by edge and source; for the backbone's predictions of one pass together,
            by the first of their edges that reads the source.
    """

    predictions: dict[str, Tensor]
    errors: dict[str, Tensor]
    pulls: dict[tuple[str, str], Tensor]


class Scheduler:
    """Runs a network's dynamics. It holds no state: `start` makes one, `step` makes the next.

    Args:
        network: What `build` made.

    Example:
        >>> run = Scheduler(network).run(images, steps=10, record=["output", "energy"])
        >>> run.output[10].argmax(dim=1)
    """

    def __init__(self, network: PCNetwork) -> None:
        self.network = network
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def start(
        self,
        inputs: Tensor | None = None,
        *,
        clamp: Mapping[str, Tensor] | None = None,
        mask: Mapping[str, Tensor] | None = None,
        free: Collection[str] = (),
        generator: torch.Generator | None = None,
        differentiable: Differentiable = False,
    ) -> State:
        """The state at step 0.

        Args:
            inputs: Images (batch, *shape) for the node ``input``, or without a backbone for the first
                node of the spec. Tensors are moved to the network's device and dtype.
            clamp: Values (batch, *shape) of other nodes that are held.
            mask: For a node that is held in part: True where it is held; broadcast to its value. The
                rest of the node starts as if it were not given.
            free: Given nodes that start at their value but move.
            generator: Source of the numbers for ``initial: normal``.
            differentiable: Whether gradients shall flow to the inputs, clamps and parameters.

        Raises:
            InputError: A name or a shape that does not fit.
        """
        with torch.inference_mode(False), torch.set_grad_enabled(bool(differentiable)):
            return start_state(self.network, self._plan, inputs, clamp or {}, mask or {}, free, generator)

    def step(self, state: State, *, differentiable: Differentiable = False) -> State:
        """The state one step later; ``state`` is not changed.

        Args:
            state: From `start` or `step`.
            differentiable: True keeps the whole graph, the error gradients included;
                ``"first_order"`` treats the error gradients as constants; False keeps nothing.
        """
        with torch.inference_mode(False), torch.set_grad_enabled(bool(differentiable)):
            plan = self._plan(state.fixed, state.batch)
            return self._advance(plan, state, self._evaluate(plan, state, differentiable))

    def refresh(self, state: State) -> State:
        """The same state for weights that have moved: what it keeps of them is computed anew."""
        with torch.inference_mode(False), torch.no_grad():
            plan = self._plan(state.fixed, state.batch)
            constants = plan.constants(state.values) if plan.constants else {}
            return replace(state, constants=constants, resting=resting_predictions(plan, state.values))

    def readout(self, state: State, *, differentiable: Differentiable = False) -> Any:
        """The backbone's output for a state, in the form that the model returns it."""
        with torch.inference_mode(False), torch.set_grad_enabled(bool(differentiable)):
            head = self._plan(state.fixed, state.batch).head
            return head({**state.constants, **state.values})["output"]

    def run(
        self,
        inputs: Tensor | None = None,
        steps: int | None = None,
        *,
        record: Iterable[str] | None = None,
        clamp: Mapping[str, Tensor] | None = None,
        mask: Mapping[str, Tensor] | None = None,
        free: Collection[str] = (),
        generator: torch.Generator | None = None,
        tolerance: float | None = None,
        differentiable: Differentiable = False,
        checkpoint: bool = False,
    ) -> Run:
        """Start, make some steps, and keep what was asked for.

        Args:
            inputs: Images; see `start`.
            steps: Number of steps; left out, the spec's.
            record: Quantities to keep at every step: ``output``, ``values``, ``predictions``,
                ``errors``, ``energy``, ``gradients``, or one name of them, as in ``values:e3``.
                Left out: ``output``, or nothing without a backbone.
            clamp: Values of other nodes that are held; see `start`.
            mask: Which part of a node is held; see `start`.
            free: Given nodes that move; see `start`.
            generator: Source of the numbers for ``initial: normal``.
            tolerance: Stop once no state changes by more than this share of its norm; left out, the
                spec's.
            differentiable: See `step`.
            checkpoint: With ``differentiable``: keep only the states and compute each step again in
                the backward pass.

        Raises:
            InputError: An argument that does not fit.
            DivergenceError: A state is not finite.
        """
        spec = self.network.spec.schedule
        steps = spec.steps if steps is None else steps
        checkpoint = checkpoint and bool(differentiable)
        tolerance = spec.tolerance if tolerance is None else tolerance
        if record is None:
            record = ["output"] if self.network.drive else []
        state = self.start(
            inputs, clamp=clamp, mask=mask, free=free, generator=generator, differentiable=differentiable
        )
        gains = self.network.dynamics.gains(state.batch)
        pulled = dict.fromkeys(node for _, node in gains.source if node not in state.fixed)
        request = Request.parse(record, self.network, pulled)
        run = Run(state)
        with torch.inference_mode(False), torch.set_grad_enabled(bool(differentiable)):
            for step in range(steps + 1):
                last = step == steps or run.converged
                plan = self._plan(
                    state.fixed, state.batch, request.watched, acting=not last or bool(request.gradients)
                )
                evaluation = None
                if request.watched or request.gradients or not (last or checkpoint):
                    evaluation = self._evaluate(plan, state, differentiable)
                self._record(run, request, plan, state, evaluation)
                if last:
                    break
                if checkpoint:
                    following = checkpointed(self, state, differentiable)
                else:
                    assert evaluation is not None
                    following = self._advance(plan, state, evaluation)
                _check_finite(following, plan.moving)
                run.converged = tolerance is not None and _still(state, following, plan.moving, tolerance)
                state = following
                run.state, run.steps = state, state.step
        return run

    def _plan(
        self,
        fixed: frozenset[str],
        batch: int,
        watched: frozenset[str] = frozenset(),
        acting: bool = True,
    ) -> Plan:
        """The plan for these fixed nodes; made once, unless the gains are learned."""
        key = (fixed, batch, watched, acting)
        plan = self._plans.get(key)
        if plan is None:
            gains = self.network.dynamics.gains(batch)
            if not acting:
                gains = Gains(dict.fromkeys(gains.target, 0.0), {}, {})
            plan = Plan(self.network, gains, fixed, watched)
            if not any(isinstance(gain, Tensor) for gain in (*gains.target.values(), *gains.source.values())):
                self._plans[key] = plan
        return plan

    def _evaluate(self, plan: Plan, state: State, differentiable: Differentiable) -> Evaluation:
        """Predictions and errors of the delayed edges, and what the errors do to the sources."""
        predictions = dict(state.resting)
        outputs: list[tuple[Block, int, Tensor]] = []
        leaves: list[Tensor] = []
        owners: list[tuple[str, str]] = []
        for block in plan.delayed:
            env: dict[str, Any] = dict(state.constants) if block.in_backbone else {}
            env.update((source, state.read(source, block.delay)) for source in block.sources)
            if block.pulled:
                for source in block.pulled:
                    env[source] = _leaf(env[source], differentiable)
                    leaves.append(env[source])
                    owners.append((block.reader(source), source))
                with torch.enable_grad():
                    results = block.function(env)
                outputs += [(block, i, result) for i, result in enumerate(results) if result.requires_grad]
            else:
                results = block.function(env)
            predictions.update((edge.name, result) for edge, result in zip(block.edges, results, strict=True))
        errors: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        with torch.set_grad_enabled(bool(differentiable)):
            for name in plan.delayed_terms:
                errors[name] = self._error(plan, name, state, predictions)
                weighted[name] = plan.energy[name].weighted(errors[name])
        pulls: dict[tuple[str, str], Tensor] = {}
        if outputs:
            cotangents = [
                weighted[block.edges[index].bundle].to(result.dtype) for block, index, result in outputs
            ]
            gradients = torch.autograd.grad(
                [result for _, _, result in outputs],
                leaves,
                cotangents if differentiable is True else [c.detach() for c in cotangents],
                create_graph=differentiable is True,
                retain_graph=bool(differentiable),
                allow_unused=True,
            )
            pulls = {owner: g for owner, g in zip(owners, gradients, strict=True) if g is not None}
        if not differentiable:
            predictions = {name: prediction.detach() for name, prediction in predictions.items()}
        return Evaluation(predictions, errors, pulls)

    def _error(self, plan: Plan, term: str, state: State, predictions: Mapping[str, Tensor]) -> Tensor:
        """Error of one term: the target's state less what the sum of the term's predictions expects."""
        target = state.values[plan.terms[term][0].target]
        return plan.energy[term].error(target, _summed(plan, term, predictions))

    def _advance(self, plan: Plan, state: State, evaluation: Evaluation) -> State:
        """Move every node by the errors; delay-0 edges are evaluated on the way, in the sweep's order."""
        env: dict[str, Any] = {**state.constants, **state.values}
        predictions = dict(evaluation.predictions)
        values = dict(state.values)
        moves: dict[str, list[tuple[Scalar, Tensor]]] = {node: [] for node in plan.moving}
        for owner, gradient in evaluation.pulls.items():
            moves[owner[1]].append((plan.pull_gain(owner), gradient))
        for visit in plan.visits:
            for block in visit.blocks:
                results = block.function(env)
                predictions.update((edge.name, r) for edge, r in zip(block.edges, results, strict=True))
            for term, gain in visit.draws:
                energy, error = plan.energy[term], evaluation.errors.get(term)
                if not energy.is_gaussian:
                    force = energy.force(state.values[visit.node], _summed(plan, term, predictions))
                else:
                    if error is None:
                        error = self._error(plan, term, state, predictions)
                    force = energy.weighted(error)
                moves[visit.node].append((-gain, force))
            value = _moved(state.values[visit.node], moves[visit.node])
            held = state.clamp.get(visit.node)
            if held is not None:
                value = torch.where(held, state.values[visit.node], value)
            values[visit.node] = env[visit.node] = value
        return state.followed_by(values)

    def _record(
        self, run: Run, request: Request, plan: Plan, state: State, evaluation: Evaluation | None
    ) -> None:
        if request.output:
            run.output.append(plan.head({**state.constants, **state.values})["output"])
        for node in request.values:
            run.values.setdefault(node, []).append(state.values[node])
        if evaluation is None:
            return
        predictions, errors = dict(evaluation.predictions), dict(evaluation.errors)
        env: dict[str, Any] = {**state.constants, **state.values}
        for block in plan.observed:
            results = block.function(env)
            predictions.update((edge.name, r) for edge, r in zip(block.edges, results, strict=True))
        for term in request.errors:
            if term not in errors:
                errors[term] = self._error(plan, term, state, predictions)
        for name in request.predictions:
            run.predictions.setdefault(name, []).append(predictions[name])
        for name in request.errors:
            run.errors.setdefault(name, []).append(errors[name])
        for name in request.energy:
            target = state.values[plan.terms[name][0].target]
            energy = plan.energy[name](target, _summed(plan, name, predictions))
            run.energy.setdefault(name, []).append(energy)
        for node in request.gradients:
            gradient = torch.zeros_like(state.values[node])
            for (edge, source), pull in evaluation.pulls.items():
                if source == node:
                    gradient = gradient - plan.gains.scale.get(edge, 1.0) * pull
            run.gradients.setdefault(node, []).append(gradient)


def _leaf(value: Tensor, differentiable: Differentiable) -> Tensor:
    """The same values as a place to take gradients at, tied to the graph so far if there is one."""
    if differentiable and value.requires_grad:
        return value.view_as(value)
    return value.detach().requires_grad_()


def _summed(plan: Plan, term: str, predictions: Mapping[str, Tensor]) -> Tensor:
    """What the edges of a term predict together."""
    first, *others = plan.terms[term]
    prediction = predictions[first.name]
    for edge in others:
        prediction = prediction + predictions[edge.name]
    return prediction


def _moved(value: Tensor, moves: Sequence[tuple[Scalar, Tensor]]) -> Tensor:
    """``value`` plus the sum of gain times direction, in the dtype of ``value``."""
    result = value
    for gain, direction in moves:
        if isinstance(gain, Tensor):
            result = result + gain * direction
        elif result is value:
            result = torch.add(value, direction, alpha=gain)
        else:
            result.add_(direction, alpha=gain)
    return result


def _check_finite(state: State, nodes: Iterable[str]) -> None:
    """One synchronisation a step: a sum that is finite has finite terms; only a doubt is looked into."""
    nodes = list(nodes)
    if not nodes:
        return
    with torch.no_grad():
        sums = torch.stack([state.values[node].sum().float() for node in nodes])
        if torch.isfinite(sums).all():
            return
        for node in nodes:
            if not torch.isfinite(state.values[node]).all():
                raise DivergenceError(
                    node,
                    state.step,
                    "Lower the gains (or rate) that move it, or look at the errors before this step.",
                )


def _still(before: State, after: State, nodes: Iterable[str], tolerance: float) -> bool:
    with torch.no_grad():
        return all(
            torch.linalg.vector_norm(after.values[node] - before.values[node])
            <= tolerance * torch.linalg.vector_norm(before.values[node])
            for node in nodes
        )
