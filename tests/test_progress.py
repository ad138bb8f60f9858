"""The progress bar: where it is shown, and the one setting that turns it off."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from pcgraph.display import progress
from pcgraph.display.progress import progress_bar
from pcgraph.learning import Feedback
from pcgraph.training import fit
from tests.training.nets import images, network, settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error (set in the test itself: pytest sets its own before), and no patience."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("PCGRAPH_PROGRESS", raising=False)
    return terminal


def bar(**options: Any) -> None:
    import time

    with progress_bar("Counting sheep", 3, **options) as advance:
        for _ in range(3):
            advance(1)
            time.sleep(0.1)


def test_a_terminal_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    bar()
    assert "Counting sheep" in screen.getvalue()


def test_one_variable_turns_all_off(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    monkeypatch.setenv("PCGRAPH_PROGRESS", "0")
    bar()
    assert screen.getvalue() == ""


def test_so_does_the_caller_and_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    bar(shown=False)
    assert screen.getvalue() == ""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    bar()
    assert file.getvalue() == ""


@pytest.mark.parametrize("shown", [True, False])
def test_a_training_shows_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: bool) -> None:
    screen = a_terminal(monkeypatch)
    net = network()
    options = {"device": "cpu", "trackers": [], "progress": shown}
    fit(Feedback(net), images(net, 16), settings(), str(tmp_path), **options)
    assert ("Training tiny" in screen.getvalue()) == shown
