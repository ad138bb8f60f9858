"""Ctrl-C and SIGTERM wait while torch computes with stand-ins: an exception there can end the process."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import ClassVar

import pytest
from torch import Tensor, fx, nn

from pcgraph.cli.process import Terminated
from pcgraph.display.interruptions import uninterrupted
from pcgraph.predictors.build import _shape_after
from pcgraph.tracing.shapes import propagate

NUMBERS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


class Interrupted(nn.Module):
    """Is interrupted in the midst of its forward."""

    ended: ClassVar[list[bool]] = []

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        signal.raise_signal(self.number)
        self.ended.append(True)
        return x + 1


def as_model(module: nn.Module) -> None:
    graph = fx.Graph()
    graph.output(graph.call_module("part", (graph.placeholder("x"),)))
    propagate(nn.ModuleDict({"part": module}), graph, (3,), {})


RUN = {"predictor": lambda module: _shape_after(module, [(3,)]), "model": as_model}


@pytest.mark.parametrize(("number", "raised"), NUMBERS)
@pytest.mark.parametrize("use", list(RUN))
def test_an_interruption_waits_for_the_end(
    number: signal.Signals, raised: type[BaseException], use: str
) -> None:
    def end(*_: object) -> None:
        raise raised

    module = Interrupted(number)
    module.ended.clear()
    before = signal.signal(number, end)
    try:
        with pytest.raises(raised):
            RUN[use](module)
        assert module.ended == [True]
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)


def test_several_are_sent_once_and_an_error_is_kept() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        with contextlib.suppress(ZeroDivisionError), uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert not came
            came.append(1 // len(came))
        assert came == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_go_on() -> None:
    done: list[bool] = []

    def work() -> None:
        with uninterrupted():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
