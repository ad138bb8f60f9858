"""What a study can find with its seeds and images, in words."""

from __future__ import annotations

from collections.abc import Sequence

from pcgraph.study.comparisons import NOISE, Comparison
from pcgraph.study.statistics import POWER

MATTERS = 0.1
"""A true difference, ten points, that a study should at least be able to find in half of its comparisons."""
LARGER = ((5, 0), (10, 0), (10, 1000))
"""Designs that are told to a study that cannot: seeds, and images (0: as many as it has)."""
NONE = "none that there can be"


def power_text(compared: Sequence[Comparison]) -> str:
    """Which true differences the study finds, from the smallest to the largest; empty with one seed."""
    order = _by_power(compared)
    if not order:
        return ""
    least, most = order[0], order[-1]
    told = f"from {_points(_of(least))} ({_pair(least)}) to {_points(_of(most))} ({_pair(most)})"
    if _of(least) > 1:
        told = NONE
    elif len(order) == 1:
        told = _points(_of(least))
    own = least.difference
    return (
        f"The smallest true difference that {own.seeds} seeds and {own.images} images "
        f"find with a probability of {POWER:g}, as one of {_family(compared)} in the family: {told} "
        "('detectable' in comparisons.csv)."
    )


def too_few(compared: Sequence[Comparison]) -> str:
    """A warning where half of the comparisons cannot find what matters; else, and with one seed, empty."""
    order = _by_power(compared)
    if not order or _of(middle := order[len(order) // 2]) <= MATTERS:
        return ""
    own, family = middle.difference, _family(compared)
    found = (
        "no difference, however large," if _of(middle) > 1 else f"no difference below {_points(_of(middle))}"
    )
    larger = [
        f"{_design(seeds, images)} would find {_points(share)}"
        for seeds, images in LARGER
        if seeds >= own.seeds
        and (seeds, images or own.images) > (own.seeds, own.images)
        and (share := own.detectable(seeds=seeds, images=images or None, comparisons=family)) <= 1
    ]
    told = f" If seeds and images vary as here, {', '.join(larger)}." if larger else ""
    return (
        f"Warning: too few seeds or images. Of {len(order)} comparisons half find {found} with a probability "
        f"of {POWER:g}.{told}"
    )


def _by_power(compared: Sequence[Comparison]) -> list[Comparison]:
    """Those over several seeds, the one that finds the smallest difference first."""
    return sorted((one for one in compared if one.detectable is not None), key=_of)


def _of(one: Comparison) -> float:
    assert one.detectable is not None
    return one.detectable


def _points(share: float) -> str:
    return f"{100 * share:.2g} points" if share <= 1 else NONE


def _design(seeds: int, images: int) -> str:
    return f"{seeds} seeds on {images:,} images" if images else f"{seeds} seeds"


def _pair(one: Comparison) -> str:
    return f"{one.first} less {one.second}{'' if one.over == NOISE else f', {one.over} noise'}"


def _family(compared: Sequence[Comparison]) -> int:
    """How many hypotheses there are: `[A, B]` and `[B, A]` are one."""
    return len({(frozenset((one.first, one.second)), one.over) for one in compared})
