"""The scheduler: runs the dynamics of a network, one step at a time."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pcgraph.building.network import build
from pcgraph.errors import InputError, PCGraphWarning
from pcgraph.network import PCNetwork
from pcgraph.simulation.batch_parts import check_divisible, run_in_parts
from pcgraph.simulation.channels_last import ChannelsLast
from pcgraph.simulation.compiling import find_compiler
from pcgraph.simulation.memory import parse_memory
from pcgraph.simulation.plan import Plan
from pcgraph.simulation.pullback import Differentiable
from pcgraph.simulation.recording import Recorder, Request, Run
from pcgraph.simulation.start import given_values, held_parts, resting_predictions, start_state
from pcgraph.simulation.step import Evaluation
from pcgraph.simulation.stepper import Course, Stepper, gradients
from pcgraph.simulation.stopping import check_finite, finite_images, is_still
from pcgraph.simulation.tape import Tape
from pcgraph.simulation.unasked import gains_channels_last, tiled_predictors
from pcgraph.spec import SpecLike
from pcgraph.state import State

Watch = Callable[[State, Mapping[str, Tensor]], None]
"""Is shown every state, and the energy of each error term, (batch,)."""


class Scheduler:
    """Runs a network's dynamics. It holds no state: `start` makes one, `step` makes the next.

    Args:
        network: What `build` made, or what it takes: a spec, a mapping, a path or a shipped name.
        direct: Whether runs compute every layer as PyTorch's own operation does, in the layout that it is
            given, so that all bits are those of steps made by hand. Left out, a run that is long enough
            computes depthwise models channels-last and, if it is not differentiable, large kernels in tiles;
            results differ by rounding, 1e-5 of a layer's largest value at most.

    Example:
        >>> run = Scheduler(network).run(images, steps=10, record=["output", "energy"])
        >>> run.output[10].argmax(dim=1)
    """

    def __init__(self, network: PCNetwork | SpecLike, *, direct: bool = False) -> None:
        self.network = network if isinstance(network, PCNetwork) else build(network)
        self.direct = direct
        self._stepper = Stepper(self.network)
        self._options: dict[str, Any] = {}

    def compile(self, **options: Any) -> Scheduler:
        """Compile the steps that are not differentiated, when they are first made; returns itself.

        The whole step becomes one function without a graph break: predictions, errors, the
        vector-Jacobian product and the updates. The backbone's first pass and the readout become two more.
        The weights become constants of them: after they changed, `start` and `run` compile anew (writing into
        ``weight.data`` is not seen). They and the states become channels-last.
        Another batch size or another set of clamped nodes is compiled anew, too. On a processor
        later processes load what was compiled (`pcgraph cache`). Measure before you rely on it.

        Args:
            options: For `torch.compile`, such as ``backend``; left out, the default backend with
                frozen weights (batch norm folded, weights packed for the processor), and CUDA graphs on a
                GPU. What these cannot compile, or where nothing is installed that could, goes on
                uncompiled, and a warning says so.
        """
        self._options = options
        self._stepper.compiler = find_compiler(self.network, options)
        return self

    @property
    def gave_up(self) -> bool:
        """Whether the last run was to be compiled and could not be; later ones are not."""
        return self._stepper.compiler is not None and self._stepper.compiler.gave_up

    def start(
        self,
        inputs: Tensor | None = None,
        *,
        clamp: Mapping[str, Tensor] | None = None,
        mask: Mapping[str, Tensor] | None = None,
        free: Collection[str] = (),
        generator: torch.Generator | None = None,
        seed: int = 0,
        places: Sequence[int] | Tensor | None = None,
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
            seed: Of what a backbone that is random in eval mode draws: at each step, for each image, by the
                seed, the step and the image's place alone.
            places: The place of each image in its data; left out, in the batch.
            differentiable: Whether gradients shall flow to the inputs, clamps and parameters.

        Raises:
            InputError: A name or a shape that does not fit.
        """
        stepper = self._stepper
        if self.gave_up:
            stepper.compiler = None
        elif stepper.compiler is not None and not stepper.compiler.knows(self.network):
            if stepper.compiler.used:
                message = "weights have changed since steps were compiled with them: they are compiled anew"
                warnings.warn(message, PCGraphWarning, stacklevel=2)
            self.compile(**self._options)
        with gradients(differentiable):
            return start_state(
                self.network,
                stepper.plan,
                inputs,
                clamp or {},
                mask or {},
                free,
                generator,
                stepper.compiler,
                seed,
                places,
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
        with gradients(differentiable):
            return self._stepper.step(state, self._stepper.pace(state, generator), differentiable)

    def refresh(self, state: State) -> State:
        """The same state for weights that have moved: what it keeps of them is computed anew."""
        with torch.inference_mode(False), torch.no_grad():
            plan = self._stepper.plan(state.fixed, state.batch)
            constants = plan.constants(state.values) if plan.constants else {}
            resting = resting_predictions(plan, state.values)
            draws = self.network.draws(state.seed, state.places, state.step)
            return replace(state, constants=constants, resting=resting, draws=draws)

    def readout(self, state: State, *, differentiable: Differentiable = False) -> Any:
        """The backbone's output for a state: what ``backbone.output`` picks of what the model returns.

        Raises:
            InputError: There is no backbone.
        """
        if self.network.drive is None:
            raise InputError("a network without a backbone has no output")
        with gradients(differentiable):
            return self._stepper.output(state)

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
        seed: int = 0,
        places: Sequence[int] | Tensor | None = None,
        tolerance: float | None = None,
        memory: str | int | None = None,
        watch: Watch | None = None,
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
            seed: Of what a random backbone draws; see `start`.
            places: The place of each image in its data; see `start`.
            tolerance: Stop once no state changes by more than this share of its norm; left out, the
                spec's.
            memory: What the run may take besides network and inputs, such as ``"2GB"``: the batch is cut
                into parts that fit, and the results are joined. How much an image takes is measured by
                short runs. Left out, the batch is run as it is.
            watch: Called at every step with the state and the energy of each error term, (batch,), which
                are then recorded too; `pcgraph.learning.EnergyWatch` is made for it.
            differentiable: See `step`.
            checkpoint: With ``differentiable``: keep only the states and compute each step but the last
                again in the backward pass.
            diverging: Whether the run goes on when a state is not finite; `Run.finite` then says which
                images still are.

        Raises:
            InputError: An argument that does not fit.
            DivergenceError: A state is not finite.
        """
        schedule = self.network.spec.schedule
        steps = schedule.steps if steps is None else steps
        tolerance = schedule.tolerance if tolerance is None else tolerance
        record = self._default_record if record is None else record
        record = record if isinstance(record, str) else list(record)
        if steps < 0:
            raise InputError(f"steps={steps}; expected 0 or more")
        if to is not None and differentiable:
            raise InputError("a differentiable run keeps its tensors in memory; leave out `to`")
        if memory is not None:
            if differentiable or watch is not None:
                raise InputError("memory: a run that is differentiable or watched cannot be cut into parts")
            check_divisible(self.network.spec, tolerance)
            given = given_values(self.network, inputs, clamp or {})
            held = held_parts(self.network, given, mask or {}, free)
            where = range(len(next(iter(given.values())))) if places is None else places
            return self._run_in_parts(
                given, held, free, seed, where, steps, record, to, tolerance, diverging, parse_memory(memory)
            )
        state = self.start(
            inputs,
            clamp=clamp,
            mask=mask,
            free=free,
            generator=generator,
            seed=seed,
            places=places,
            differentiable=differentiable,
        )
        run = Run(state, tape=to)
        del state  # else the first one would be kept until the run ends
        with gradients(differentiable):
            course = self._course(run, steps, record, watch, differentiable, checkpoint)
            if to is not None:
                to.begin()
            while run.steps < steps and not run.converged:
                following = course.step(run.state, self._stepper.pace(run.state, generator))
                if diverging:
                    run.finite.append(finite_images(following, course.moving))
                else:
                    check_finite(following, course.moving)
                run.converged = is_still(run.state, following, course.moving, tolerance)
                run.state, run.steps = following, following.step
            run.state = course.end(run.state)
        return run

    @property
    def _default_record(self) -> list[str]:
        return ["output"] if self.network.drive else []

    def _course(
        self,
        run: Run,
        steps: int,
        record: str | list[str],
        watch: Watch | None,
        differentiable: Differentiable,
        checkpoint: bool,
    ) -> Course:
        """The steps of a run, on whose way what was asked for is recorded and watched."""
        if watch is not None:
            record = [*([record] if isinstance(record, str) else record), "energy"]
        sources = self.network.dynamics.gains(run.state.batch).source
        pulled = dict.fromkeys(node for _, node in sources if node not in run.state.fixed)
        request = Request.parse(record, self.network, pulled)
        keep = Recorder(run, request, self._stepper.output)

        def see(plan: Plan, state: State, evaluation: Evaluation | None) -> None:
            keep(plan, state, evaluation)
            if watch is not None:
                watch(state, {name: series[-1] for name, series in run.energy.items()})

        instead, layout = {}, None
        if not (self.direct or self._stepper.compiler or watch):
            if not differentiable:
                instead = tiled_predictors(self.network, steps)
            if gains_channels_last(self.network, steps, run.state):
                layout = ChannelsLast(run.state)
        # the backward pass would make the last step again at once
        apart = range(steps - 1 if checkpoint else 0)
        return Course(self._stepper, run.state, request, see, differentiable, apart, instead, layout)

    def _run_in_parts(
        self,
        given: Mapping[str, Tensor],
        held: Mapping[str, Tensor | None],
        free: Collection[str],
        seed: int,
        places: Sequence[int] | Tensor,
        steps: int,
        record: str | list[str],
        to: Tape | None,
        tolerance: float | None,
        diverging: bool,
        limit: int,
    ) -> Run:
        """`run`, a part of the batch at a time."""

        def part(scheduler: Scheduler, images: slice, steps: int, to: Tape | None) -> Run:
            clamp = {name: value[images] for name, value in given.items()}
            mask = {name: kept[images] for name, kept in held.items() if kept is not None}
            return scheduler.run(
                None,
                steps,
                record=record,
                to=to,
                clamp=clamp,
                mask=mask,
                free=free,
                seed=seed,
                places=places[images],
                tolerance=tolerance,
                diverging=diverging,
            )

        direct = copy.copy(self)
        direct.direct = True  # what tiles take does not show in the short runs
        return run_in_parts(
            partial(part, direct),
            partial(part, Scheduler(self.network, direct=True)),
            self.refresh,
            batch=len(next(iter(given.values()))),
            steps=steps,
            limit=limit,
            tape=to,
        )
