"""Whether a network settles, and how fast: run on, and linearised where it comes to rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pcgraph.analysis.long_run import LongRun, long_run
from pcgraph.analysis.modes import Mode, leading_modes
from pcgraph.analysis.needs import need
from pcgraph.errors import InputError
from pcgraph.scheduler import Scheduler
from pcgraph.state import State

AT_REST = ("settled", "settling")


@dataclass(frozen=True)
class Stability:
    """What the states do in the long run, and what a small change of them does.

    Attributes:
        runs: What each image did.
        modes: The leading modes of a step, largest first; of all images, which do not depend on each other.
        unknown: Why there are no modes; empty where there are.
    """

    runs: tuple[LongRun, ...]
    modes: tuple[Mode, ...]
    unknown: str = ""

    @property
    def spectral_radius(self) -> float:
        """The largest modulus: below 1 small changes die away. NaN without modes."""
        return self.modes[0].modulus if self.modes else math.nan

    @property
    def settled(self) -> float:
        """The share of the images that settled."""
        return sum(one.outcome == "settled" for one in self.runs) / len(self.runs)


def stability(
    scheduler: Scheduler,
    state: State,
    steps: int = 300,
    *,
    modes: int = 3,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Stability:
    """Run on, and find the leading modes where the states come to rest.

    Images that settle, or are about to, are linearised at their last state; others have no fixed point to be
    linearised at, and are taken at their first.

    Args:
        scheduler: The network's scheduler.
        state: Where it begins.
        steps: Steps to make at most; see `long_run`.
        modes: How many; see `leading_modes`.
        tolerance: The change of a state that counts as none; see `long_run`.
        seed: See `leading_modes`.

    Raises:
        InputError: See `long_run`; or scipy is not installed.
    """
    need("scipy", "study", "leading modes")
    runs, last = long_run(scheduler, state, steps, tolerance=tolerance, seed=seed)
    rest = torch.tensor([one.outcome in AT_REST for one in runs])
    try:
        found = leading_modes(scheduler, _either(rest, last, state), modes, seed=seed)
    except InputError as error:
        return Stability(tuple(runs), (), error.faults[0].message)
    return Stability(tuple(runs), tuple(found))


def _either(first: Tensor, one: State, other: State) -> State:
    """The images of one state where ``first`` (batch,) is true, and of the other elsewhere."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(first.to(a.device).view(-1, *[1] * (a.dim() - 1)), a, b)

    def each(
        a: Mapping[str, tuple[Tensor, ...]], b: Mapping[str, tuple[Tensor, ...]]
    ) -> dict[str, tuple[Tensor, ...]]:
        return {name: tuple(map(pick, a[name], b[name])) for name in a}

    values = {name: pick(value, other.values[name]) for name, value in one.values.items()}
    return replace(
        one, values=values, past=each(one.past, other.past), moments=each(one.moments, other.moments)
    )
