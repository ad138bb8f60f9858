"""A run whose batch is cut into parts that fit into the memory it is given; the results are joined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from pcgraph.errors import Fault, InputError
from pcgraph.simulation.memory import measure_cost
from pcgraph.simulation.recording import QUANTITIES, Run
from pcgraph.simulation.tape import Frames, Tape
from pcgraph.spec import EnergyDynamics, Spec
from pcgraph.state import State

Part = Callable[[slice, int, Tape | None], Run]
"""Runs some images of the batch: which, how many steps, onto which tape."""


def check_divisible(spec: Spec, tolerance: float | None) -> None:
    """Make sure that images do not depend on the others of their batch.

    Raises:
        InputError: They do.
    """
    reasons = []
    if tolerance:
        reasons.append("a tolerance stops the whole batch")
    if spec.schedule.initial == "normal":
        reasons.append("'initial: normal' draws numbers for the whole batch")
    if isinstance(spec.dynamics, EnergyDynamics):
        if spec.dynamics.temperature:
            reasons.append("a temperature draws numbers for the whole batch")
    elif spec.dynamics.gradient == "mean":
        reasons.append("'gradient: mean' divides by the size of the batch")
    if reasons:
        message = f"memory: this batch cannot be cut into parts: {'; '.join(reasons)}"
        raise InputError(Fault(message, hint="Give fewer images at a time instead."))


def run_in_parts(
    run: Part,
    trial: Part,
    refresh: Callable[[State], State],
    *,
    batch: int,
    steps: int,
    limit: int,
    tape: Tape | None,
) -> Run:
    """Run a batch in as few parts as fit, as even as possible, and join the results.

    Args:
        run: Runs some images.
        trial: The same for the short runs by which the memory is measured, which shall leave nothing behind.
        refresh: Computes what a joined state keeps of the network.
        batch: Images in all.
        steps: Of the run.
        limit: Bytes.
        tape: Where the run records, if not in memory.

    Raises:
        InputError: Not even one image fits.
    """

    def size(images: int, made: int) -> int:
        other = None if tape is None else Tape(tape.path, tape.items)
        try:
            return result_size(trial(slice(images), made, other)) // images
        finally:
            if other is not None:
                other.close()

    count = -(-batch // measure_cost(size, steps, batch).images(batch, limit))
    ends = [batch * part // count for part in range(count + 1)]
    runs = []
    for begin, end in itertools.pairwise(ends):
        runs.append(run(slice(begin, end), steps, tape))
        if count > 1:
            runs[-1].state = replace(runs[-1].state, constants={}, resting={}, draws={})
    return runs[0] if count == 1 else join(runs, refresh)


def result_size(run: Run) -> int:
    """Bytes of what a run keeps in memory; of the state twice, as while it is joined."""
    states = [dict(run.state.values), dict(run.state.past), dict(run.state.moments), dict(run.state.clamp)]
    return 2 * _bytes(states) + _bytes([list(series) for series in _lists(run)])


def _bytes(values: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _lists(run: Run) -> Iterator[list[Any]]:
    """What a run recorded in memory."""
    everything = [run.output, *(one for name in QUANTITIES for one in getattr(run, name).values())]
    return (series for series in everything if isinstance(series, list))


def join(runs: Sequence[Run], refresh: Callable[[State], State]) -> Run:
    """The runs of all parts as the run of the whole batch; what the parts recorded is given up on the way.

    Args:
        runs: In the order of the images.
        refresh: Computes what the joined state keeps of the network, which takes memory; called if that is
            ever read.
    """
    states = [run.state for run in runs]
    step = max(state.step for state in states)
    merged: dict[str, Any] = {
        name: _cat(*(dict(getattr(state, name)) for state in states))
        for name in ("values", "past", "clamp", "moments")
    }
    places = tuple(place for state in states for place in state.places)
    plain = State(**merged, constants={}, resting={}, step=step, seed=states[0].seed, places=places)
    state = replace(
        plain,
        constants=_Later(lambda: refresh(plain).constants),
        resting=_Later(lambda: refresh(plain).resting),
        draws=_Later(lambda: refresh(plain).draws),
    )
    whole = Run(state, step, all(run.converged for run in runs), tape=runs[0].tape)
    whole.finite = _side_by_side([run.finite for run in runs])
    whole.output = _side_by_side([run.output for run in runs])
    for quantity in QUANTITIES:
        for name in getattr(runs[0], quantity):
            getattr(whole, quantity)[name] = _side_by_side([getattr(run, quantity)[name] for run in runs])
    return whole


def _side_by_side(parts: Sequence[list[Any]]) -> list[Any]:
    """One quantity of the whole batch, step by step; of a part that stopped early the last is repeated."""
    first = parts[0]
    if isinstance(first, Frames):
        return cast("list[Any]", Frames.side_by_side(cast("Sequence[Frames]", parts)))
    whole = []
    for step in range(max(map(len, parts))):
        whole.append(_cat(*(part[min(step, len(part) - 1)] for part in parts)))
        for part in parts:
            if step < len(part) - 1:
                part[step] = None  # or everything would be there twice
    return whole


def _cat(*parts: Any) -> Any:
    """Nested values with their tensors one after the other."""
    return tree_map(lambda *found: torch.cat(found) if isinstance(found[0], Tensor) else found[0], *parts)


class _Later(Mapping[str, Any]):
    """A mapping that is made when it is first read."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[str, Any]:
        return self._make()

    def __getitem__(self, name: str) -> Any:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)
