"""The scheduler: runs the dynamics of a network, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pcgraph.dynamics.descent import Pace
from pcgraph.dynamics.gains import Gains
from pcgraph.errors import DivergenceError, InputError
from pcgraph.network import PCNetwork
from pcgraph.simulation.batch_parts import check_divisible, run_in_parts
from pcgraph.simulation.checkpointing import checkpointed
from pcgraph.simulation.compiling import Compiler, find_compiler
from pcgraph.simulation.memory import parse_memory
from pcgraph.simulation.plan import Plan
from pcgraph.simulation.pullback import Differentiable
from pcgraph.simulation.recording import Request, Run
from pcgraph.simulation.start import given_values, held_parts, resting_predictions, start_state
from pcgraph.simulation.step import Evaluation, advance, error_of, evaluate, summed
from pcgraph.simulation.tape import Tape
from pcgraph.state import State


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
        self._blocks = network.graph.blocks(network.spec.schedule.order)
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._compiler: Compiler | None = None

    def compile(self, **options: Any) -> Scheduler:
        """Compile the steps that are not differentiated, when they are first made; returns itself.

        The whole step becomes one function without a graph break: predictions, errors, the
        vector-Jacobian product and the updates. The backbone's first pass and the readout become two more.
        The weights become constants of them, so change none afterwards; they and the states become
        channels-last. Another batch size or another set of clamped nodes is compiled anew. Measure before
        you rely on it (`make bench`).

        Args:
            options: For `torch.compile`, such as ``backend``; left out, the default backend with
                frozen weights (batch norm folded, weights packed for the processor), and CUDA graphs on a
                GPU. Where nothing is installed that could compile, a warning says so and all goes on
                uncompiled.
        """
        self._compiler = find_compiler(self.network, options)
        return self

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
        with _gradients(differentiable):
            return start_state(
                self.network, self._plan, inputs, clamp or {}, mask or {}, free, generator, self._compiler
            )

    def step(
        self,
        state: State,
        *,
        generator: torch.Generator | None = None,
        differentiable: Differentiable = False,
    ) -> State:
        """The state one step later; ``state`` is not changed.

        Args:
            state: From `start` or `step`.
            generator: Source of the noise of a temperature.
            differentiable: True keeps the whole graph, the error gradients included;
                ``"first_order"`` treats the error gradients as constants; False keeps nothing.
        """
        with _gradients(differentiable):
            return self.follow(state, self._pace(state, generator), differentiable)

    def follow(self, state: State, pace: Pace | None, differentiable: Differentiable) -> State:
        """`step`, with what chance has decided and the gradient mode set; for `checkpointed`."""
        newest = state
        for block in self._blocks:  # one of all nodes, but for a sequential order
            plan = self._plan(state.fixed, state.batch, block=block)
            if self._compiler is not None and not differentiable:
                moved = self._compiled_step(self._compiler, plan, newest, pace)[1]
            else:
                moved = advance(plan, newest, evaluate(plan, newest, differentiable, False), pace)
            newest = replace(state, values=moved.values, moments=moved.moments)
        return state.followed_by(newest.values, newest.moments)

    def refresh(self, state: State) -> State:
        """The same state for weights that have moved: what it keeps of them is computed anew."""
        with torch.inference_mode(False), torch.no_grad():
            plan = self._plan(state.fixed, state.batch)
            constants = plan.constants(state.values) if plan.constants else {}
            return replace(state, constants=constants, resting=resting_predictions(plan, state.values))

    def readout(self, state: State, *, differentiable: Differentiable = False) -> Any:
        """The backbone's output for a state, in the form that the model returns it.

        Raises:
            InputError: There is no backbone.
        """
        if self.network.drive is None:
            raise InputError("a network without a backbone has no output")
        with _gradients(differentiable):
            return self._output(self._plan(state.fixed, state.batch), state)

    def run(
        self,
        inputs: Tensor | None = None,
        steps: int | None = None,
        *,
        record: Iterable[str] | None = None,
        to: Tape | None = None,
        clamp: Mapping[str, Tensor] | None = None,
        mask: Mapping[str, Tensor] | None = None,
        free: Collection[str] = (),
        generator: torch.Generator | None = None,
        tolerance: float | None = None,
        memory: str | int | None = None,
        watch: Callable[[State, Mapping[str, Tensor]], None] | None = None,
        differentiable: Differentiable = False,
        checkpoint: bool = False,
        diverging: bool = False,
    ) -> Run:
        """Start, make some steps, and keep what was asked for.

        Args:
            inputs: Images; see `start`.
            steps: Number of steps; left out, the spec's.
            record: Quantities to keep at every step: ``output``, ``values``, ``predictions``,
                ``errors``, ``energy``, ``gradients``, or one name of them, as in ``values:e3``.
                Left out: ``output``, or nothing without a backbone.
            to: Where what is recorded goes as it comes; left out, it is kept in memory.
            clamp: Values of other nodes that are held; see `start`.
            mask: Which part of a node is held; see `start`.
            free: Given nodes that move; see `start`.
            generator: Source of the numbers for ``initial: normal`` and of the noise of a temperature.
            tolerance: Stop once no state changes by more than this share of its norm; left out, the
                spec's.
            memory: What the run may take besides network and inputs, such as ``"2GB"``: the batch is cut
                into parts that fit, and the results are joined. How much an image takes is measured by
                short runs. Left out, the batch is run as it is.
            watch: Called at every step with the state and the energy of each error term, (batch,), which
                are then recorded too; `pcgraph.learning.EnergyWatch` is made for it.
            differentiable: See `step`.
            checkpoint: With ``differentiable``: keep only the states and compute each step again in
                the backward pass.
            diverging: Whether the run goes on when a state is not finite; `Run.finite` then says which
                images still are.

        Raises:
            InputError: An argument that does not fit.
            DivergenceError: A state is not finite.
        """
        spec = self.network.spec.schedule
        steps = spec.steps if steps is None else steps
        if steps < 0:
            raise InputError(f"steps={steps}; expected 0 or more")
        if to is not None and differentiable:
            raise InputError("a differentiable run keeps its tensors in memory; leave out `to`")
        checkpoint = checkpoint and bool(differentiable)
        tolerance = spec.tolerance if tolerance is None else tolerance
        record = record if record is None or isinstance(record, str) else list(record)
        if memory is not None:
            if differentiable or watch is not None:
                raise InputError("memory: a run that is differentiable or watched cannot be cut into parts")
            check_divisible(self.network.spec, tolerance)
            given = given_values(self.network, inputs, clamp or {})
            held = held_parts(self.network, given, mask or {}, free)

            def part(scheduler: Scheduler, images: slice, steps: int, to: Tape | None) -> Run:
                values = {name: value[images] for name, value in given.items()}
                masks = {name: kept[images] for name, kept in held.items() if kept is not None}
                return scheduler.run(
                    None,
                    steps,
                    record=record,
                    to=to,
                    clamp=values,
                    mask=masks,
                    free=free,
                    tolerance=tolerance,
                    diverging=diverging,
                )

            batch = len(next(iter(given.values())))
            return run_in_parts(self, part, batch, steps, parse_memory(memory), to)
        if record is None:
            record = ["output"] if self.network.drive else []
        if watch is not None:
            record = [*([record] if isinstance(record, str) else record), "energy"]
        state = self.start(
            inputs, clamp=clamp, mask=mask, free=free, generator=generator, differentiable=differentiable
        )
        gains = self.network.dynamics.gains(state.batch)
        pulled = dict.fromkeys(node for _, node in gains.source if node not in state.fixed)
        request = Request.parse(record, self.network, pulled)
        keep = bool(request.watched or request.gradients)
        run = Run(state, tape=to)
        if to is not None:
            to.begin()
        with _gradients(differentiable):
            for step in range(steps + 1):
                last = step == steps or run.converged
                pace = None if last else self._pace(state, generator)
                plan = self._plan(
                    state.fixed, state.batch, request.watched, acting=not last or bool(request.gradients)
                )
                evaluation = following = None
                at_once = len(self._blocks) == 1 and not checkpoint
                if self._compiler is not None and at_once and not (differentiable or last):
                    evaluation, following = self._compiled_step(self._compiler, plan, state, pace)
                elif keep or (at_once and not last):
                    evaluation = evaluate(plan, state, differentiable, keep)
                self._record(run, request, plan, state, evaluation)
                if watch is not None:
                    watch(state, {name: series[-1] for name, series in run.energy.items()})
                if last:
                    break
                if checkpoint:
                    following = checkpointed(self, state, pace, differentiable)
                elif evaluation is None or not at_once:
                    following = self.follow(state, pace, differentiable)
                elif following is None:
                    following = advance(plan, state, evaluation, pace)
                if diverging:
                    run.finite.append(_finite_images(following, plan.moving))
                else:
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
        block: frozenset[str] | None = None,
    ) -> Plan:
        """The plan for these fixed nodes (to move one block); made once, unless the gains are learned."""
        key = (fixed, batch, watched, acting, block)
        plan = self._plans.get(key)
        if plan is None:
            gains = self.network.dynamics.gains(batch)
            if not acting:
                gains = Gains(dict.fromkeys(gains.target, 0.0), {}, {})
            plan = Plan(self.network, gains, fixed, watched, block)
            if not any(isinstance(gain, Tensor) for gain in (*gains.target.values(), *gains.source.values())):
                self._plans[key] = plan
        return plan

    def _pace(self, state: State, generator: torch.Generator | None) -> Pace | None:
        """What the next step depends on besides the state; None where that is nothing."""
        descent = self.network.dynamics.descent
        return None if descent is None else descent.pace(state.step, state.values, state.fixed, generator)

    def _compiled_step(
        self, compiler: Compiler, plan: Plan, state: State, pace: Pace | None
    ) -> tuple[Evaluation, State]:
        """`evaluate` and `advance` as one compiled function of the tensors in a state."""

        def fused(parts: dict[str, Any], pace: Pace | None) -> tuple[Any, ...]:
            given = State(**parts)
            evaluation = evaluate(plan, given, False, constant=compiler.constant)
            following = advance(plan, given, evaluation, pace)
            if not plan.watched:  # then only the gradients can have been asked for
                evaluation = Evaluation(pulls=evaluation.pulls)
            seen = (evaluation.predictions, evaluation.errors, evaluation.pulls)
            return *seen, following.values, following.moments

        # without the number of the step, or each step would be compiled
        parts = {name: part for name, part in vars(state).items() if name != "step"}
        *seen, values, moments = compiler(plan, fused, parts, pace and pace.as_tensors())
        return Evaluation({}, *seen), state.followed_by(values, moments)

    def _output(self, plan: Plan, state: State) -> Any:
        """The backbone's output for a state."""
        head, env = plan.head, {**state.constants, **state.values}
        if self._compiler is None or torch.is_grad_enabled():
            return head(env)["output"]

        def output(env: dict[str, Any]) -> Any:
            return head(env)["output"]

        return self._compiler(head, output, {name: env[name] for name in head.takes})

    def _record(
        self, run: Run, request: Request, plan: Plan, state: State, evaluation: Evaluation | None
    ) -> None:
        if request.output:
            run.add_output(self._output(plan, state))
        for node in request.values:
            run.add("values", node, state.values[node])
        if evaluation is None or not (request.watched or request.gradients):
            return
        predictions, errors = dict(evaluation.predictions), dict(evaluation.errors)
        env: dict[str, Any] = {**state.constants, **state.values}
        for block in plan.observed:
            predictions.update(zip(block.names, block.function(env), strict=True))
        for term in request.errors:
            if term not in errors:
                errors[term] = error_of(plan, term, state, predictions)
        for name in request.predictions:
            run.add("predictions", name, predictions[name])
        for name in request.errors:
            run.add("errors", name, errors[name])
        for name in request.energy:
            target = state.values[plan.terms[name][0].target]
            run.add("energy", name, plan.energy[name](target, summed(plan, name, predictions)))
        for node in request.gradients:
            gradient = torch.zeros_like(state.values[node])
            for (edge, source), pull in evaluation.pulls.items():
                if source == node:
                    gradient = gradient - plan.gains.scale.get(edge, 1.0) * pull
            run.add("gradients", node, gradient)


@contextmanager
def _gradients(differentiable: Differentiable) -> Iterator[None]:
    """Keep a graph or not, whatever the caller's own gradient mode is."""
    if differentiable not in (True, False, "first_order"):
        raise InputError(f"differentiable={differentiable!r}; expected True, False or 'first_order'")
    with torch.inference_mode(False), torch.set_grad_enabled(bool(differentiable)):
        yield


def _check_finite(state: State, nodes: Iterable[str]) -> None:
    """One synchronisation a step: a sum that is finite has finite terms; only a doubt is looked into."""
    nodes = list(nodes)
    if not nodes:
        return
    with torch.no_grad():
        sums = [state.values[node].sum() for node in nodes]
        if math.isfinite(torch.stack(sums).sum().item()):
            return
        for node in nodes:
            if not torch.isfinite(state.values[node]).all():
                raise DivergenceError(
                    node,
                    state.step,
                    "Lower the gains (or rate) that move it, or look at the errors before this step.",
                )


def _finite_images(state: State, nodes: Iterable[str]) -> Tensor:
    """Of each image (batch,) whether all its states are finite."""
    finite = torch.ones(state.batch, dtype=torch.bool)
    for node in nodes:
        finite &= torch.isfinite(state.values[node]).flatten(1).all(dim=1).cpu()
    return finite


def _still(before: State, after: State, nodes: Iterable[str], tolerance: float) -> bool:
    with torch.no_grad():
        return all(
            torch.linalg.vector_norm(after.values[node] - before.values[node])
            <= tolerance * torch.linalg.vector_norm(before.values[node])
            for node in nodes
        )
