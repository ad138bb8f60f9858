"""Collection waits for the end of a block, and for nobody else's switch."""

from __future__ import annotations

import gc
import weakref

import pytest

from pcgraph.display.garbage import uncollected


class Circle:
    def __init__(self) -> None:
        self.me = self


def fill() -> None:
    """Make as many objects as it takes for Python to look for unused ones."""
    assert len([[number] for number in range(100_000)]) == 100_000


def test_what_is_unused_is_collected_after_the_block() -> None:
    with uncollected():
        unused = weakref.ref(Circle())
        fill()
        assert unused() is not None
    fill()
    assert unused() is None


def test_it_goes_on_after_a_fault() -> None:
    with pytest.raises(ZeroDivisionError), uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_who_has_switched_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
