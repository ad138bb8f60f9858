"""The arms of a study against its reference, and its planned contrasts, as one family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcgraph.evaluation.statistics import Interval
from pcgraph.study.results import Results
from pcgraph.study.statistics import Difference, difference, holm

NOISE, UNSEEN = "noise", "unseen"


@dataclass(frozen=True)
class Comparison:
    """The mean accuracy over some conditions of one arm, less that of another.

    Attributes:
        first: The one arm.
        second: The other.
        difference: What was found; see `Difference`.
        interval: Which holds together with all others of the study, in 95 of 100 such studies.
        p: Corrected for the number of comparisons (Holm).
        detectable: The smallest true difference that this study finds in 80 of 100 repetitions; None with
            one seed.
        over: ``noise``, or ``unseen``: the conditions that nothing is tuned for.
    """

    first: str
    second: str
    difference: Difference
    interval: Interval
    p: float
    detectable: float | None
    over: str = NOISE


def comparisons(results: Results) -> list[Comparison]:
    """Every arm less the reference, then the contrasts; these over what is unseen, too, if there is any.

    Without arms that failed with some seed.
    """
    study = results.plan.study
    names = [one.name for one in results.plan.arms.wirings]
    planned = [(first, second) for first, second in study.contrasts]
    pairs = [(name, results.reference, NOISE) for name in names if name != results.reference]
    pairs += [(*pair, NOISE) for pair in planned]
    pairs += [(*pair, UNSEEN) for pair in planned if results.plan.unseen]
    conditions = {NOISE: results.plan.robust, UNSEEN: results.plan.unseen}
    found = {}
    for first, second, over in dict.fromkeys(pairs):
        one, other = (_scores(results, name, conditions[over]) for name in (first, second))
        if one is not None and other is not None:
            found[first, second, over] = difference(one, other)
    same = {key: (frozenset(key[:2]), key[2]) for key in found}  # [A, B] and [B, A] are one
    family = {same[key]: one.p_value() for key, one in found.items()}
    corrected = dict(zip(family, holm(list(family.values())), strict=True))
    return [
        Comparison(
            first,
            second,
            one,
            one.interval(comparisons=len(family)),
            float(corrected[same[first, second, over]]),
            one.detectable(comparisons=len(family)) if one.over_seeds else None,
            over,
        )
        for (first, second, over), one in found.items()
    ]


def _scores(results: Results, arm: str, conditions: Sequence[str]) -> NDArray[np.float64] | None:
    """Right answers, (seeds, images, conditions); None if a seed failed."""
    found = [results.right(arm, condition) for condition in conditions]
    if any(one is None for one in found):
        return None
    return np.stack([one for one in found if one is not None], axis=-1).astype(np.float64)
