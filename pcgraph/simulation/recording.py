"""What a run keeps: only what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from pcgraph.display.text import listing
from pcgraph.errors import Fault, InputError, closest
from pcgraph.network import PCNetwork
from pcgraph.simulation.plan import Plan
from pcgraph.simulation.step import Evaluation, error_of, summed
from pcgraph.simulation.tape import Tape
from pcgraph.state import State

QUANTITIES = ("values", "predictions", "errors", "energy", "gradients")
"""What a run keeps by name, besides the output."""


@dataclass(frozen=True)
class Request:
    """The quantities to keep, each with the names that are wanted.

    Attributes:
        output: Whether the backbone's output is wanted.
        values: Nodes whose states are wanted.
        predictions: Edges whose predictions are wanted.
        errors: Error terms whose errors are wanted.
        energy: Error terms whose energies are wanted.
        gradients: Nodes whose error gradients are wanted.
        watched: All error terms that have to be evaluated for this.
    """

    output: bool
    values: tuple[str, ...]
    predictions: tuple[str, ...]
    errors: tuple[str, ...]
    energy: tuple[str, ...]
    gradients: tuple[str, ...]
    watched: frozenset[str]

    @classmethod
    def parse(cls, record: Iterable[str], network: PCNetwork, pulled: Iterable[str]) -> Request:
        """Read ``["output", "values", "errors:e2->e1"]``: a quantity, or one name of it after a colon.

        Args:
            record: What to keep.
            network: The network, for the names.
            pulled: The nodes that errors move; they have gradients.

        Raises:
            InputError: An unknown quantity or name.
        """
        graph = network.graph
        names: dict[str, tuple[str, ...]] = {
            "output": ("output",) if network.drive else (),
            "values": tuple(graph.nodes),
            "predictions": tuple(graph.edges),
            "errors": tuple(graph.terms),
            "energy": tuple(graph.terms),
            "gradients": tuple(pulled),
        }
        wanted: dict[str, dict[str, None]] = {quantity: {} for quantity in names}
        if isinstance(record, str):
            raise InputError(f"record={record!r} is one string; give a list such as [{record!r}]")
        for item in record:
            quantity, colon, name = item.partition(":")
            if quantity not in names:
                raise InputError(
                    Fault(f"nothing called '{quantity}' can be recorded", hint=closest(quantity, names))
                )
            if quantity == "output" and network.drive is None:
                raise InputError("a network without a backbone has no output to record; record 'values'")
            if colon and name not in names[quantity]:
                raise InputError(
                    Fault(f"'{item}': there is no '{name}'", hint=closest(name, names[quantity]))
                )
            wanted[quantity].update(dict.fromkeys([name] if colon else names[quantity]))
        return cls(
            output=bool(wanted["output"]),
            values=tuple(wanted["values"]),
            predictions=tuple(wanted["predictions"]),
            errors=tuple(wanted["errors"]),
            energy=tuple(wanted["energy"]),
            gradients=tuple(wanted["gradients"]),
            watched=frozenset(
                [graph.edges[name].bundle for name in wanted["predictions"]]
                + [*wanted["errors"], *wanted["energy"]]
            ),
        )


class Series(dict[str, list[Tensor]]):
    """Tensors by name and step: ``series["e3"][t]``."""

    def __missing__(self, name: str) -> list[Tensor]:
        raise InputError(
            Fault(
                f"'{name}' was not recorded", hint=closest(name, self) or "Ask for it in run(record=[...])."
            )
        )


@dataclass(repr=False)
class Run:
    """The result of `Scheduler.run`. Step 0 is the start; every list has ``steps + 1`` entries.

    Attributes:
        state: The last state.
        steps: Steps that were made.
        converged: Whether the run stopped because no state changed by more than the tolerance.
        output: The backbone's output at each step.
        values: States by node, each (batch, *shape).
        predictions: Predictions by edge, made from the states of the same step.
        errors: ``target - prediction`` by error term; for a bundle the prediction is the sum.
        energy: ``precision * |error|^2 / 2`` by error term, one number an image: (batch,).
        gradients: By node, the sum over its edges of ``s_e`` times the gradient of the energies of
            the predictions that it makes; for the nodes that errors can move (not clamped as a whole).
        finite: Of a run that may diverge, (batch,) bool for each step but the start: whether all states of
            an image are finite.
        tape: Where the tensors went that are not in memory; lists of these read a step when it is asked for.
    """

    state: State
    steps: int = 0
    converged: bool = False
    output: list[Any] = field(default_factory=list)
    values: Series = field(default_factory=Series)
    predictions: Series = field(default_factory=Series)
    errors: Series = field(default_factory=Series)
    energy: Series = field(default_factory=Series)
    gradients: Series = field(default_factory=Series)
    finite: list[Tensor] = field(default_factory=list)
    tape: Tape | None = None

    def __repr__(self) -> str:
        names = (f"{quantity}:{name}" for quantity in QUANTITIES for name in getattr(self, quantity))
        kept = listing([*(["output"] if self.output else []), *names]) or "nothing"
        end = ", converged" if self.converged else ""
        return f"Run of {self.steps} steps{end}, batch of {self.state.batch}\n  recorded: {kept}"

    def add_output(self, output: Any) -> None:
        """Keep the next step's output; on the tape, if it is one tensor."""
        if not self.output and self.tape and self.tape.takes("output", "") and isinstance(output, Tensor):
            self.output = cast("list[Any]", self.tape.frames("output"))
        self.output.append(output)

    def add(self, quantity: str, name: str, tensor: Tensor) -> None:
        """Keep the next step of ``values``, ``errors``, ...; energies, being small, in memory too."""
        series: Series = getattr(self, quantity)
        taped = self.tape is not None and self.tape.takes(quantity, name)
        if self.tape is not None and taped and quantity == "energy":
            self.tape.frames(f"{quantity}:{name}").append(tensor)
            taped = False
        if name not in series:
            kept: object = self.tape.frames(f"{quantity}:{name}") if self.tape and taped else []
            series[name] = cast("list[Tensor]", kept)
        series[name].append(tensor)


class Recorder:
    """Puts what was asked for into a run, state by state.

    Args:
        run: The run.
        request: What was asked for.
        output: Computes the backbone's output for a state.
    """

    def __init__(self, run: Run, request: Request, output: Callable[[State], Any]) -> None:
        self.run = run
        self.request = request
        self.output = output

    def __call__(self, plan: Plan, state: State, evaluation: Evaluation | None) -> None:
        """Record one state, and what the delayed edges say of it."""
        if self.request.output:
            self.run.add_output(self.output(state))
        for node in self.request.values:
            self.run.add("values", node, state.values[node])
        if evaluation is not None:
            self._errors(plan, state, evaluation)
            self._gradients(plan, state, evaluation)

    def _errors(self, plan: Plan, state: State, evaluation: Evaluation) -> None:
        predictions, errors = dict(evaluation.predictions), dict(evaluation.errors)
        env: dict[str, Any] = {**state.constants, **state.draws, **state.values}
        for block in plan.observed(predictions):
            predictions.update(zip(block.names, block.function(env), strict=True))
        for name in self.request.predictions:
            self.run.add("predictions", name, predictions[name])
        for name in self.request.errors:
            error = errors[name] if name in errors else error_of(plan, name, state, predictions)
            self.run.add("errors", name, error)
        for name in self.request.energy:
            target = state.values[plan.terms[name][0].target]
            self.run.add("energy", name, plan.energy[name](target, summed(plan, name, predictions)))

    def _gradients(self, plan: Plan, state: State, evaluation: Evaluation) -> None:
        for node in self.request.gradients:
            gradient = torch.zeros_like(state.values[node])
            for (edge, source), pull in evaluation.pulls.items():
                if source == node:
                    gradient = gradient - plan.gains.scale.get(edge, 1.0) * pull
            self.run.add("gradients", node, gradient)
