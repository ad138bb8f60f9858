"""Arms that settle, and those that do not, in words."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest

from pcgraph.report.settled import settling_text, unsettled
from pcgraph.report.study import ArmRow, arms_csv
from pcgraph.study.stability import ArmStability


def row(arm: str, stability: ArmStability | None) -> ArmRow:
    return ArmRow(arm, (), 0, None, None, (), None, 0, 0, {}, None, stability)


RESTS = ArmStability(0.95, 16, 16, 30.0, {})


@pytest.mark.parametrize(
    ("stability", "words"),
    [
        (
            ArmStability(1.14, 16, 6, 12.0, {"settling": 2, "growing": 8}),
            ["does not settle", "6 of 16", "growing 8", "1.140"],
        ),
        (ArmStability(1.0, 16, 16, 12.0, {}), ["does not settle", "16 of 16", "1.000"]),
        (ArmStability(0.9, 16, 12, 12.0, {"cycle": 4}), ["does not settle", "cycle 4"]),
        (ArmStability(0.999, 16, 12, 250.0, {"settling": 4}), ["has not settled in the steps", "12 of 16"]),
        (ArmStability(math.nan, 16, 0, math.nan, {"moving": 16}), ["does not settle", "no spectral radius"]),
        (ArmStability(math.nan, 0, 0, math.nan, {}), ["not known", "a seed failed"]),
    ],
)
def test_what_does_not_settle_is_a_warning(stability: ArmStability, words: list[str]) -> None:
    said = settling_text(row("found", stability))
    assert said.startswith("Warning: ")
    assert "'found'" in said
    assert all(word in said for word in words)
    told = unsettled([row("a", RESTS), row("found", stability), row("b", None)])
    assert "not settled: found." in told


def test_what_settles_is_told_once_and_is_no_warning() -> None:
    said = settling_text(row("found", RESTS))
    assert said.startswith("'found' settles: 16 of 16")
    assert "0.950" in said
    assert unsettled([row("found", RESTS), row("b", None)]) == ""
    assert settling_text(row("b", None)) == ""


def test_what_is_known_of_one_arm_alone_makes_no_column() -> None:
    """As of the arm that a search found."""
    one, other = (
        replace(row(arm, stable), accuracy={"clean:0": 0.5})
        for arm, stable in (("a", None), ("found", RESTS))
    )
    lines = list(csv.reader(io.StringIO(arms_csv([one, other]))))
    assert "spectral_radius" not in lines[0]
    assert {len(line) for line in lines} == {len(lines[0])}
    both = list(csv.reader(io.StringIO(arms_csv([other, other]))))
    assert both[0][-3:] == ["spectral_radius", "settled", "steps_to_settle"]
    assert both[1][-3:] == ["0.95", "16/16", "30.0"]
