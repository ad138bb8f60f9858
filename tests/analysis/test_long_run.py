"""What becomes of maps of which it is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from pcgraph.analysis.long_run import LongRun, long_run
from pcgraph.errors import InputError
from pcgraph.state import State

Map = Callable[[Tensor], Tensor]


@dataclass
class Maps:
    """In the place of a scheduler: a step is a map of the one node as it was ``delay`` steps ago."""

    map: Map
    delay: int = 1

    def start(self, value: Tensor) -> State:
        past = (value,) * (self.delay - 1)
        return State({"x": value}, {"x": past} if past else {}, {}, {}, {}, places=tuple(range(len(value))))

    def step(self, state: State, **_: Any) -> State:
        return state.followed_by({"x": self.map(state.read("x", self.delay))})


def told(map: Map, *start: float, delay: int = 1, **options: Any) -> list[LongRun]:
    maps = Maps(map, delay)
    value = torch.tensor(start, dtype=torch.float64).unsqueeze(1)
    return long_run(maps, maps.start(value), **options)[0]  # type: ignore[arg-type]


def turn(angle: float, size: float) -> Map:
    """A rotation of pairs, one after the other as (x, y) in a row."""
    matrix = size * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return lambda x: x @ matrix.T.double()


def turned(angle: float, size: float = 1.0, **options: Any) -> LongRun:
    maps = Maps(turn(angle, size))
    state = maps.start(torch.tensor([[1.0, 0.3]], dtype=torch.float64))
    return long_run(maps, state, **options)[0][0]  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [0.9, 0.5, -0.8])
def test_it_settles_when_changes_are_below_the_tolerance(factor: float) -> None:
    (one,) = told(lambda x: factor * x + 1, 5.0)
    rest = 1 / (1 - factor)
    largest, count = 5.0, 0
    x = 5.0
    while True:
        after = factor * x + 1
        if abs(after - x) <= 1e-3 * largest:
            break
        x, count = after, count + 1
        largest = max(largest, abs(x))
    assert (one.outcome, one.steps) == ("settled", count)
    assert one.distance == pytest.approx(abs(5 - rest) / 5, abs=2e-2)


def test_a_state_that_falls_to_zero_settles() -> None:
    (one,) = told(lambda x: 0.7 * x, 1.0)
    assert (one.outcome, one.steps) == ("settled", 16)  # 0.3 * 0.7^15 > 1e-3 >= 0.3 * 0.7^16
    assert one.distance == pytest.approx(1, abs=0.01)


def test_a_run_that_is_too_short_says_where_it_leads() -> None:
    for factor, outcome in ((0.99, "settling"), (-0.99, "settling"), (1.03, "growing"), (-1.03, "growing")):
        (one,) = told(lambda x, f=factor: f * x, 1.0, steps=200, tolerance=1e-6)
        assert one.outcome == outcome
        assert one.rate == pytest.approx(abs(factor), rel=1e-6)
        assert one.steps is one.period is None


def test_what_is_not_finite() -> None:
    (one, other) = told(lambda x: x**2, 1.5, 0.5)
    assert (one.outcome, other.outcome) == ("diverged", "settled")


@pytest.mark.parametrize("period", [2, 3, 5, 7, 12, 32])
def test_cycles_of_rotations(period: int) -> None:
    assert turned(2 * math.pi / period).period == period
    one = turned(2 * math.pi * (period // 2 if period == 5 else 1) / period)
    assert (one.outcome, one.period) == ("cycle", period)


def test_a_rotation_that_does_not_come_back_is_no_cycle() -> None:
    one = turned(1.0)
    assert (one.outcome, one.period) == ("moving", None)
    assert turned(2 * math.pi / 40).outcome == "moving"  # longer than what is looked for


@pytest.mark.parametrize("size", [0.9995, 0.9999, 0.99])
def test_an_oscillation_that_dies_away_slowly_is_no_cycle(size: float) -> None:
    for period in (2, 4, 9):
        assert turned(2 * math.pi / period, size, tolerance=1e-2).outcome in ("moving", "settling", "settled")


@pytest.mark.parametrize(("r", "period"), [(3.2, 2), (3.5, 4), (3.83, 3)])
def test_cycles_of_the_logistic_map(r: float, period: int) -> None:
    (one,) = told(lambda x: r * x * (1 - x), 0.3)
    assert (one.outcome, one.period) == ("cycle", period)


def test_chaos_is_no_cycle_and_no_growth() -> None:
    (one,) = told(lambda x: 3.9 * x * (1 - x), 0.3)
    assert one.outcome == "moving"


def test_images_are_told_apart() -> None:
    outcomes = [one.outcome for one in told(lambda x: -torch.tanh(2 * x) * (x.abs() > 0.1), 1.0, 0.05)]
    assert outcomes == ["cycle", "settled"]


def test_a_state_that_waits_for_a_delay_has_not_settled() -> None:
    """The pasts are equal at first, so that with delay 3 two steps in three change nothing."""
    (one,) = told(lambda x: 0.5 * x + 1, 6.0, delay=3)
    assert one.outcome == "settled"
    assert one.distance == pytest.approx(4 / 6, abs=1e-2)


def test_refusals() -> None:
    with pytest.raises(InputError, match="8 or more"):
        told(lambda x: x, 1.0, steps=3)
    maps = Maps(lambda x: x)
    held = State({"x": torch.ones(1, 1)}, {}, {"x": None}, {}, {})
    with pytest.raises(InputError, match="no state moves"):
        long_run(maps, held)  # type: ignore[arg-type]
