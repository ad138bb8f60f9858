"""From one state to the next, and what can be seen on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pcgraph.dynamics.descent import Pace
from pcgraph.dynamics.gains import Gains
from pcgraph.errors import InputError
from pcgraph.network import PCNetwork
from pcgraph.simulation.channels_last import ChannelsLast, in_rows
from pcgraph.simulation.checkpointing import Step, checkpointed
from pcgraph.simulation.compiling import Compiler
from pcgraph.simulation.plan import Plan
from pcgraph.simulation.pullback import Differentiable
from pcgraph.simulation.recording import Request
from pcgraph.simulation.step import Evaluation, advance, evaluate
from pcgraph.state import State

See = Callable[[Plan, State, Evaluation | None], None]
"""Is shown a state, and what the delayed edges say of it where somebody wants to know."""


class Stepper:
    """Makes steps: block by block of the order, each as its plan says, compiled or not.

    Args:
        network: The network.

    Attributes:
        compiler: What compiles steps that are not differentiated; None leaves them as they are.
    """

    def __init__(self, network: PCNetwork) -> None:
        self.network = network
        self.compiler: Compiler | None = None
        self._blocks = network.graph.blocks(network.spec.schedule.order)
        self._plans: dict[tuple[Any, ...], Plan] = {}

    @property
    def at_once(self) -> bool:
        """Whether all nodes move at once, and not block after block."""
        return len(self._blocks) == 1

    @property
    def learning(self) -> list[nn.Parameter]:
        """The parameters that gradients flow to."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def plan(
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

    def pace(self, state: State, generator: torch.Generator | None) -> Pace | None:
        """What the next step depends on besides the state; None where that is nothing."""
        descent = self.network.dynamics.descent
        draws = self.network.draws(state.seed, state.places, state.step + 1)
        if descent is None:
            return Pace(draws=draws) if draws else None
        return descent.pace(state.step, state.values, state.fixed, generator)._replace(draws=draws)

    def step(self, state: State, pace: Pace | None, differentiable: Differentiable = False) -> State:
        """The state one step later."""
        newest = state
        for block in self._blocks:  # one of all nodes, but for a sequential order
            plan = self.plan(state.fixed, state.batch, block=block)
            if self.compiler is not None and not differentiable:
                moved = self.compiler.step(plan, newest, pace)[1]
            else:
                moved, _ = advance(plan, newest, evaluate(plan, newest, differentiable, False), pace)
            newest = replace(state, values=moved.values, moments=moved.moments)
        return state.followed_by(newest.values, newest.moments, pace.draws if pace else {})

    def output(self, state: State) -> Any:
        """The backbone's output for a state."""
        head = self.plan(state.fixed, state.batch).head
        parts = (state.values, state.draws, state.constants)
        env = {name: next(part[name] for part in parts if name in part) for name in head.takes}
        if self.compiler is None or torch.is_grad_enabled():
            return head(env)["output"]

        def output(env: dict[str, Any]) -> Any:
            return head(env)["output"]

        return self.compiler(head, output, env)


class Course:
    """The steps of one run: each state is shown to whoever wants to see it before it is left.

    Where it can be, what is shown and what moves the states is evaluated once: a step makes the delay-0
    predictions of the state that follows, and they are shown with it.

    Args:
        stepper: Makes the steps.
        state: The first state.
        request: What has to be evaluated for those who look.
        see: Sees each state.
        differentiable: See `Scheduler.step`.
        checkpoint: The steps, counted from 0, that keep only their states for the backward pass.
        instead: Predictors by edge that are used instead of the network's.
        layout: How the maps lie after the first step; None leaves them as they come.

    Attributes:
        moving: The nodes that are not fixed.
    """

    def __init__(
        self,
        stepper: Stepper,
        state: State,
        request: Request,
        see: See,
        differentiable: Differentiable = False,
        checkpoint: range = range(0),
        instead: Mapping[str, nn.Module] = {},
        layout: ChannelsLast | None = None,
    ) -> None:
        self._stepper, self._see, self._differentiable = stepper, see, differentiable
        self._instead, self._layout = instead, layout
        self._keep = bool(request.watched or request.gradients)
        self._plan = stepper.plan(state.fixed, state.batch, request.watched)
        self._last = stepper.plan(state.fixed, state.batch, request.watched, acting=bool(request.gradients))
        self.moving = self._plan.moving
        self._apart: Step | None = None if stepper.at_once else stepper.step
        self._instant: dict[str, Tensor] = {}  # watched predictions of the state to come
        self._checkpointed: dict[int, Step] = {}
        if checkpoint and differentiable:
            self._checkpointed = dict.fromkeys(checkpoint, checkpointed(stepper.step, stepper.learning))

    def step(self, state: State, pace: Pace | None) -> State:
        """Show a state; the one that follows."""
        following = self._following(state, pace)
        return following if self._layout is None else self._layout.laid_out(following)

    def _following(self, state: State, pace: Pace | None) -> State:
        plan, compiler = self._plan, self._stepper.compiler
        apart = self._checkpointed.get(state.step, self._apart)
        if apart is not None:
            self._show(plan, state)
            return apart(state, pace, self._differentiable)
        if compiler is not None and not self._differentiable:
            evaluation, following, instant = compiler.step(plan, state, pace)
            self._shown(plan, state, evaluation)
            self._instant = instant
            return following
        evaluation = evaluate(plan, state, self._differentiable, self._keep, self._instead)
        self._shown(plan, state, evaluation)
        following, self._instant = advance(plan, state, evaluation, pace)
        return following

    def end(self, state: State) -> State:
        """Show the last state; the same as it is handed over."""
        self._show(self._last, state)
        return state if self._layout is None else self._layout.laid_back(state)

    def _show(self, plan: Plan, state: State) -> None:
        evaluation = None
        if self._keep:
            evaluation = evaluate(plan, state, self._differentiable, instead=self._instead)
        self._shown(plan, state, evaluation)

    def _shown(self, plan: Plan, state: State, evaluation: Evaluation | None) -> None:
        evaluation = evaluation if self._keep else None
        if evaluation is not None:
            evaluation.predictions.update(self._instant)
        if self._layout is not None:
            state = self._layout.shown(state)
            evaluation = evaluation and in_rows(evaluation)
        self._see(plan, state, evaluation)


@contextmanager
def gradients(differentiable: Differentiable) -> Iterator[None]:
    """Keep a graph or not, whatever the caller's own gradient mode is."""
    if differentiable not in (True, False, "first_order"):
        raise InputError(f"differentiable={differentiable!r}; expected True, False or 'first_order'")
    with torch.inference_mode(False), torch.set_grad_enabled(bool(differentiable)):
        yield
