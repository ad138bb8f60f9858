"""``error: auto``: how strongly errors may move a node, from what one of its error steps does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SHARE = 0.25
"""Of the limit: what `auto` stands for."""
DIGITS = 3


@dataclass(frozen=True)
class Carried:
    """What an edge carries back to one of its sources.

    Attributes:
        stretch: The largest eigenvalue of ``J^T J``, times the number of sources that share the error.
        pull: ``|J^T eps| / |x|`` at the start; 0 where no start is known.
    """

    stretch: float
    pull: float = 0.0


def automatic(
    kept: float, others: float, edges: Mapping[str, float], carried: Mapping[str, Carried]
) -> float:
    """`SHARE` of the largest gain with which the errors of some edges may move their source.

    With its targets at rest, a step of the source is ``x <- (kept - sum b s J^T J) x + ...``. It does not
    run away while no eigenvalue is below -1, so for ``sum b s |J|^2 < 1 + kept``. And of a source that leaks
    back by ``1 - kept`` a step, the errors of the start carry it away by no more than its own norm for
    ``sum b s |J^T eps| < (1 - kept) |x|``; this counts where targets are far larger than their source.

    Args:
        kept: The share of itself that the source keeps in a step.
        others: ``sum b s |J|^2`` of its edges that have their own gains.
        edges: The scale s of each of the other edges.
        carried: What these edges carry; NaN comes of those that nobody has measured.
    """
    known = [(scale, carried.get(name, Carried(math.nan))) for name, scale in edges.items()]
    strength = sum(scale * one.stretch for scale, one in known)
    pull = sum(scale * one.pull for scale, one in known)
    if not strength:
        return 0.0
    gain = max(1 + kept - others, 0.0) / strength
    if pull and kept < 1:
        gain = min(gain, (1 - kept) / pull)
    return float(f"{SHARE * gain:.{DIGITS}g}")
