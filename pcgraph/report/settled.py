"""Whether arms settle, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pcgraph.report.study import ArmRow
from pcgraph.study.stability import ArmStability, others_text

THEN = "What is answered then depends on the step at which it is read."


def settling_text(row: ArmRow) -> str:
    """What is known of an arm: that it settles, or a warning; empty where nothing was looked at."""
    one = row.stability
    if one is None:
        return ""
    if not one.images:
        return f"Warning: it is not known whether '{row.arm}' settles: a seed failed."
    others = f" ({others_text(one.others, ', ')})" if one.others else ""
    told = f"{one.settled} of {one.images} runs with clean images come to rest{others}, {_radius(one)}"
    if _settles(one):
        return f"'{row.arm}' settles: {told}."
    late = set(one.others) == {"settling"} and not one.spectral_radius >= 1
    verb = "has not settled in the steps that were made" if late else "does not settle"
    return f"Warning: '{row.arm}' {verb}: {told}. {THEN}"


def unsettled(rows: Sequence[ArmRow]) -> str:
    """A warning that names the arms that are known not to settle; empty if there are none."""
    names = [row.arm for row in rows if row.stability is not None and not _settles(row.stability)]
    return f"Warning: not settled: {', '.join(names)}. {THEN}" if names else ""


def _settles(one: ArmStability) -> bool:
    """Every run came to rest, where small changes die away."""
    return 0 < one.images == one.settled and not one.spectral_radius >= 1


def _radius(one: ArmStability) -> str:
    if math.isnan(one.spectral_radius):
        return "no spectral radius"
    return f"spectral radius {one.spectral_radius:.3f} (from 1 on small changes grow)"
