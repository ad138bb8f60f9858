"""What a network does when it runs on: it settles, goes round in a cycle, grows, or none of these yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pcgraph.errors import InputError
from pcgraph.scheduler import Scheduler
from pcgraph.state import State

Outcome = Literal["settled", "settling", "cycle", "moving", "growing", "diverged"]
QUARTERS = 4
"""Parts of a run; its last two are compared."""
SHRINKS = 0.7
"""Changes that fall to this share from the third quarter to the last are dying away."""
EVEN = 1e-3
"""By so little the changes of a cycle may differ from quarter to quarter."""
CLEARLY = 10
"""Changes of a cycle are so many times larger than the tolerance."""
LONGEST = 32
"""Steps of the longest cycle that is looked for."""


@dataclass(frozen=True)
class LongRun:
    """What the states of one image did.

    Attributes:
        outcome: ``settled``: no state changes by more than the tolerance any more; ``cycle``: the states
            come back after ``period`` steps, while they change between; ``settling`` or ``growing``: the
            changes die away or grow, and the run was too short to see the end; ``moving``: none of these;
            ``diverged``: a state is not finite.
        steps: Of a settled image, the number of steps it took.
        period: Of a cycle, its steps.
        change: The largest change of a node in the last step, as a share of its largest norm so far.
        rate: The factor a step by which the changes shrank or grew, from the third quarter of the run to the
            last; NaN where it ended before.
        distance: How far the last state is from the first: the largest change of a node, as a share of its
            norm at the start (of its largest, where that is 0).
    """

    outcome: Outcome
    steps: int | None
    period: int | None
    change: float
    rate: float
    distance: float


def long_run(
    scheduler: Scheduler, state: State, steps: int = 300, *, tolerance: float = 1e-3, seed: int = 0
) -> tuple[list[LongRun], State]:
    """Run on, and tell what becomes of every image.

    Images are told apart, and each is judged by its node that changes most. A node's change is measured as a
    share of the largest norm that it has had, so that states which fall to zero settle, too. A run ends early
    where all images have settled.

    Args:
        scheduler: The network's scheduler.
        state: Where it begins.
        steps: Steps to make; of cycles up to 64 more.
        tolerance: The change that counts as none; float32 rounds at about 1e-7.
        seed: Of the noise of a temperature.

    Returns:
        What each image did, and the last state.

    Raises:
        InputError: Fewer than 8 steps, or no state moves.
    """
    if steps < 2 * QUARTERS:
        raise InputError(f"steps={steps}; expected {2 * QUARTERS} or more to see where a run leads")
    watch = _Watch(state)
    generator = torch.Generator().manual_seed(seed)
    begun = state
    for _ in range(steps):
        after = scheduler.step(state, generator=generator)
        watch.see(state, after)
        state = after
        if bool((watch.still(tolerance) | ~watch.finite).all()):
            break
    periods = _periods(scheduler, state, watch, tolerance, generator)
    return watch.told(tolerance, periods, begun, state), state


class _Watch:
    """The changes of every image, step by step."""

    def __init__(self, state: State) -> None:
        self.moving = [name for name in state.values if name not in state.fixed]
        if not self.moving:
            raise InputError("no state moves: all nodes are clamped")
        self.first = self.largest = self._norms(state.values)
        self.finite = torch.ones(state.batch, dtype=torch.bool)
        self.window = 1 + max((len(past) + 1 for past in state.past.values()), default=1)
        self._changes: list[Tensor] = []  # (nodes, batch) each
        self._shares: list[Tensor] = []  # of the largest norm until then, (batch,) each

    def see(self, before: State, after: State) -> None:
        """A step."""
        norms = self._norms(after.values)
        self.finite &= norms.isfinite().all(dim=0)
        self.largest = torch.maximum(self.largest, norms)
        self._changes.append(self._apart(before, after))
        self._shares.append(_share(self._changes[-1], self.largest))

    def still(self, tolerance: float) -> Tensor:
        """Which images have not moved for as long as delays look back, (batch,)."""
        if len(self._shares) < self.window:
            return torch.zeros_like(self.finite)
        return self.finite & (torch.stack(self._shares[-self.window :]) <= tolerance).all(dim=0)

    def even(self, tolerance: float) -> Tensor:
        """Which images, (batch,), changed as much in the last quarter as in the one before, and clearly."""
        third, last = self._quarters()
        return self.finite & (last > CLEARLY * tolerance) & ((last / third - 1).abs() <= EVEN)

    def told(self, tolerance: float, periods: Tensor, begun: State, end: State) -> list[LongRun]:
        """What became of every image."""
        third, last = self._quarters()
        rates = (last / third) ** (1 / max(len(self._changes) // QUARTERS, 1))
        start = torch.where(self.first > 0, self.first, self.largest)
        distances = _share(self._apart(begun, end), start)
        still, shares = self.still(tolerance), torch.stack(self._shares)
        found = []
        for image, period in enumerate(periods.tolist()):
            outcome: Outcome = "moving"
            if not self.finite[image]:
                outcome = "diverged"
            elif still[image]:
                outcome = "settled"
            elif period:
                outcome = "cycle"
            elif last[image] < SHRINKS * third[image]:
                outcome = "settling"
            elif SHRINKS * last[image] > third[image]:
                outcome = "growing"
            moved = (shares[:, image] > tolerance).nonzero()
            found.append(
                LongRun(
                    outcome,
                    (int(moved.max()) + 1 if len(moved) else 0) if outcome == "settled" else None,
                    period or None,
                    float(shares[-1, image]),
                    float(rates[image]),
                    float(distances[image]),
                )
            )
        return found

    def back(self, begun: State, state: State, tolerance: float) -> Tensor:
        """Which images are where they were, (batch,)."""
        return _share(self._apart(begun, state), self.largest) <= tolerance

    def _quarters(self) -> tuple[Tensor, Tensor]:
        """The largest change in the third quarter, and in the last, (batch,) each; NaN in too short a run."""
        part = len(self._changes) // QUARTERS
        if not part:
            unknown = torch.full((len(self.finite),), math.nan, dtype=torch.float64)
            return unknown, unknown
        series = torch.stack([_share(one, self.largest) for one in self._changes[-2 * part :]])
        return series[:part].amax(dim=0), series[part:].amax(dim=0)

    def _norms(self, values: Mapping[str, Tensor]) -> Tensor:
        """By node and image, (nodes, batch), in float64 on the processor."""
        flat = [values[name].detach().double().flatten(1) for name in self.moving]
        return torch.stack([torch.linalg.vector_norm(one, dim=1) for one in flat]).cpu()

    def _apart(self, one: State, other: State) -> Tensor:
        return self._norms({name: other.values[name] - one.values[name] for name in self.moving})


def _share(changes: Tensor, norms: Tensor) -> Tensor:
    """The largest over the nodes (nodes, batch), as shares of norms: (batch,)."""
    return torch.where(changes == 0, 0.0, changes / norms).amax(dim=0)


def _periods(
    scheduler: Scheduler, state: State, watch: _Watch, tolerance: float, generator: torch.Generator
) -> Tensor:
    """By image, (batch,), after how many steps it is where it was, twice in a row; 0 where it is not."""
    even = watch.even(tolerance)
    if not even.any():
        return torch.zeros_like(even).int()
    begun, back = state, []
    for _ in range(2 * LONGEST):
        state = scheduler.step(state, generator=generator)
        back.append(watch.back(begun, state, tolerance))
    closed = torch.stack(back[:LONGEST]) & torch.stack(back[1::2])  # after p steps, and after 2 p
    return torch.where(closed.any(dim=0) & even, closed.int().argmax(dim=0) + 1, 0)
