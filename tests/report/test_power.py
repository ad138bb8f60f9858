"""What is said of the seeds and images of a study, against the power of each of its comparisons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pcgraph.report.power import MATTERS, power_text, too_few
from pcgraph.study.comparisons import UNSEEN, Comparison
from pcgraph.study.statistics import Difference

NEAR = Difference(0.03, 2, 60, 1e-4, 1e-5, 1e-6)
"""Two seeds that agree by chance."""


def compared(*found: Difference, over: str = "noise") -> list[Comparison]:
    return [
        Comparison(
            f"arm{place}",
            "chain",
            one,
            one.interval(comparisons=len(found)),
            1.0,
            one.detectable(comparisons=len(found)) if one.over_seeds else None,
            over,
        )
        for place, one in enumerate(found)
    ]


@pytest.mark.parametrize("seeds", [2, 3])
def test_too_few_seeds_are_told_with_what_more_of_them_would_find(seeds: int) -> None:
    far = Difference(0.03, seeds, 60, 1e-4, 1e-5, 4e-3)
    own = compared(*[far] * 3)
    said = too_few(own)
    assert said.startswith("Warning: too few seeds")
    for more, images, what in (
        (5, 60, "5 seeds would"),
        (10, 60, "10 seeds would"),
        (10, 1000, "1,000 images would"),
    ):
        share = far.detectable(seeds=more, images=images, comparisons=3)
        assert f"{what} find {100 * share:.2g} points" in said


def test_what_no_seeds_help_is_not_promised() -> None:
    assert "would find" not in too_few(compared(*[Difference(0.0, 2, 60, 5.0, 0.0, 5.0)] * 2))


def test_nothing_is_said_of_what_is_enough() -> None:
    fine = Difference(0.01, 5, 1000, 1e-5, 1e-6, 1e-5)
    assert fine.detectable(comparisons=2) < MATTERS
    assert too_few(compared(fine, fine)) == ""
    assert too_few([]) == power_text([]) == ""
    alone = compared(replace(NEAR, seeds=1))
    assert too_few(alone) == power_text(alone) == ""


def test_few_images_are_told_to_many_seeds() -> None:
    said = too_few(compared(*[Difference(0.1, 10, 20, 0.02, 1e-4, 1e-4)] * 2))
    assert "10 seeds on 1,000 images would find" in said
    assert "5 seeds" not in said


def test_the_page_tells_the_range_and_does_not_contradict_itself() -> None:
    """Neither is a larger one than none told, nor does one lucky pair of seeds speak for all."""
    none = Difference(0.03, 2, 60, 1e-4, 1e-5, 0.1)
    said = power_text(own := compared(none, NEAR, none))
    assert own[1].detectable is not None
    assert f"from {100 * own[1].detectable:.2g} points (arm1 less chain)" in said
    assert "to none that there can be (arm0 less chain)" in said or "(arm2 less chain)" in said
    assert "as one of 3 in the family" in said
    said = power_text(compared(none, none))
    assert "in the family: none that there can be ('detectable'" in said
    assert "larger" not in said
    assert "points" not in said


def test_the_family_counts_each_pair_once() -> None:
    one, other = compared(NEAR, NEAR)
    back = replace(one, first="chain", second="arm0")
    unseen = replace(one, over=UNSEEN)
    assert "as one of 3 in the family" in power_text([one, other, back, unseen])
    assert "arm0 less chain, unseen noise" in power_text([unseen, other])
