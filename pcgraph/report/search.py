"""What a study says of its search in one line."""

from __future__ import annotations

from collections.abc import Sequence

from pcgraph.report.study import ArmRow
from pcgraph.study.trials import Trials


def search_line(search: Trials, rows: Sequence[ArmRow], reference: str) -> str:
    """What was found on held-out images, and how sure that is on the test images with fresh seeds."""
    found = search.plain()
    counts = f"{found['trials']} trials, {found['pruned']} pruned, {found['failed']} failed"
    objective, value = next(iter(found["objectives"].items()))
    seeds = len(found["seeds"])
    begun = (
        f"Search: {counts}. Trial {found['chosen']} became '{found['arm']}': {objective} {value:.3f} on "
        f"held-out images ({seeds} {'seed' if seeds == 1 else 'seeds'}). On the test images, fresh seeds: "
    )
    (row,) = [one for one in rows if one.arm == found["arm"]]
    one = row.compared
    if one is None:
        return begun + ("it is the reference." if row.arm == reference else "no comparison: a seed failed.")
    difference, low, high = one.difference.value, one.interval.low, one.interval.high
    shown = f"{difference:+.3f} to '{reference}', from {low:+.3f} to {high:+.3f} (corrected)"
    return f"{begun}{shown}, p = {one.p:.3g}."
