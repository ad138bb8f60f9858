"""Calls side by side: their results in order, whoever makes them, and no slower than one after the other."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from pcgraph.files.cache import Cache
from pcgraph.simulation import side_by_side
from pcgraph.simulation.packages import load_or_make
from pcgraph.simulation.side_by_side import Team, Unlocked, together


def test_results_come_in_order() -> None:
    assert together([lambda at=at: at for at in range(5)]) == [0, 1, 2, 3, 4]
    assert together([lambda: 7]) == [7]


def test_calls_are_made_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=60)
    found = together([lambda: (meeting.wait(), threading.get_ident())[1] for _ in range(2)])
    assert found[0] == threading.get_ident() != found[1]


def test_what_no_thread_has_begun_is_done_here() -> None:
    done = threading.Event()
    held = side_by_side._threads(1).submit(done.wait, 60)
    try:
        assert together([threading.get_ident] * 2) == [threading.get_ident()] * 2
    finally:
        done.set()
    assert held.result()


def test_faults_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        together([lambda: 1, lambda: 1 // 0])


def test_the_way_that_takes_less_time_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of its own: cores are free, then busy, then free again."""
    clock, busy, ways = [0.0], [False], []

    def pass_time(seconds: float, way: str) -> None:
        clock[0] += seconds
        ways.append(way)

    monkeypatch.setattr(side_by_side, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(side_by_side, "together", lambda _: pass_time(5 if busy[0] else 1.3, "together"))
    team = Team()
    for state, expected in ((False, "together"), (True, "alone"), (False, "together")):
        busy[0] = state
        for _ in range(2000):
            team([lambda: pass_time(2, "alone")])
        assert ways[-200:].count(expected) == 198  # two to see how long the other way takes


@pytest.mark.heavy
def test_a_package_without_the_lock(tmp_path: object) -> None:
    """Four threads at once, each with numbers of its own; the results are those of torch."""

    def function(x: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
        return [(x @ weight).tanh(), x.sum(0)]

    x, weight = torch.rand(6, 5, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    package = load_or_make(function, (x, weight), Cache(tmp_path))  # type: ignore[arg-type]
    unlocked = Unlocked(package, 4)
    inputs = [x + at for at in range(8)]
    for _ in range(20):
        found = together([lambda one=one: unlocked(one, weight) for one in inputs])
        for one, results in zip(inputs, found, strict=True):
            for result, expected in zip(results, function(one, weight), strict=True):
                torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
