"""Kinds of values that a study file gives: names of arms, and seeds."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from pcgraph.spec.source import show
from pcgraph.spec.values import refuse

MOST_SEEDS = 1000


def _arm_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
        raise refuse(f"{show(name)} cannot name an arm", "Letters, digits, '_', '-', '+' and '.'.")
    return name


def counted(value: Any, first: int = 0) -> Any:
    """A number of seeds as so many of them, from ``first`` on; anything else as it is."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        return value
    if value > MOST_SEEDS:
        raise refuse(f"expected at most {MOST_SEEDS} repetitions, got {value}")
    return list(range(first, first + value))


def distinct(seeds: list[int]) -> list[int]:
    """Seeds of which none is there twice."""
    if len(set(seeds)) < len(seeds):
        raise refuse("a seed is given twice", "Each seed is one repetition.")
    return seeds


Name = Annotated[str, AfterValidator(_arm_name)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seeds = Annotated[list[Seed], BeforeValidator(counted), Field(min_length=1), AfterValidator(distinct)]
