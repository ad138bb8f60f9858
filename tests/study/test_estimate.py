"""What a plan says about time."""

from __future__ import annotations

import pytest

from pcgraph.cli.study import duration, time_needed
from pcgraph.study.estimate import Estimate


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "a second"), (4.2, "4 seconds"), (59, "59 seconds"), (97, "1.6 minutes"), (7200, "2.0 hours")],
)
def test_a_time_is_told_as_exactly_as_a_guess_is(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert not duration(seconds).startswith("0")


def test_what_is_not_in_the_estimate_is_named() -> None:
    said = time_needed(Estimate("chain", {"train": 2.0, "measure": 4.0}), 2)
    assert "6 seconds in one process, 3 seconds in 2" in said
    assert "tables and figures at the end, are not in it" in said
    assert "nothing is left to compute" in time_needed(Estimate("chain", {"train": 0.0}), 2)
