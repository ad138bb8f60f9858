"""The arms of a study against its reference, and its planned contrasts, as one family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcgraph.evaluation.statistics import Interval
from pcgraph.study.results import Results
from pcgraph.study.statistics import Difference, difference, holm


@dataclass(frozen=True)
class Comparison:
    """The mean accuracy over the noisy conditions of one arm, less that of another.

    Attributes:
        first: The one arm.
        second: The other.
        difference: What was found; see `Difference`.
        interval: Which holds together with all others of the study, in 95 of 100 such studies.
        p: Corrected for the number of comparisons (Holm).
        detectable: The smallest true difference that this study finds in 80 of 100 repetitions; None with
            one seed.
    """

    first: str
    second: str
    difference: Difference
    interval: Interval
    p: float
    detectable: float | None


def comparisons(results: Results) -> list[Comparison]:
    """Every arm less the reference, then the contrasts; without arms that failed with some seed."""
    study = results.plan.study
    names = [one.name for one in results.plan.arms.wirings]
    pairs = [(name, results.reference) for name in names if name != results.reference]
    pairs += [(first, second) for first, second in study.contrasts]
    scores = {name: _scores(results, name) for name in names}
    found = {}
    for first, second in dict.fromkeys(pairs):
        one, other = scores[first], scores[second]
        if one is not None and other is not None:
            found[first, second] = difference(one, other)
    family = {frozenset(pair): one.p_value() for pair, one in found.items()}  # [A, B] and [B, A] are one
    corrected = dict(zip(family, holm(list(family.values())), strict=True))
    return [
        Comparison(
            first,
            second,
            one,
            one.interval(comparisons=len(family)),
            float(corrected[frozenset((first, second))]),
            one.detectable(comparisons=len(family)) if one.over_seeds else None,
        )
        for (first, second), one in found.items()
    ]


def _scores(results: Results, arm: str) -> NDArray[np.float64] | None:
    """Right answers, (seeds, images, conditions); None if a seed failed."""
    found = [results.right(arm, condition) for condition in results.robust()]
    if any(one is None for one in found):
        return None
    return np.stack([one for one in found if one is not None], axis=-1).astype(np.float64)
