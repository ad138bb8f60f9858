"""The stability of the arms of a study, with every seed."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from pcgraph.study.results import Results, failure, to_csv
from pcgraph.study.work import FAILED, STABILITY


@dataclass(frozen=True)
class StabilityRow:
    """One line of ``stability.csv``: one arm and seed.

    Attributes:
        arm: The wiring.
        seed: The repetition.
        spectral_radius: Of a step's Jacobian where the states come to rest, the largest over the images; NaN
            where it cannot be told.
        images: How many were run on with.
        settled: How many of them settled.
        steps: In how many steps, the median over those that settled; NaN if none did.
        others: What the others did, and how many of them.
        unknown: Why there is no radius, or what went wrong before; empty if nothing did.
    """

    arm: str
    seed: int
    spectral_radius: float
    images: int
    settled: int
    steps: float
    others: Mapping[str, int]
    unknown: str


@dataclass(frozen=True)
class ArmStability:
    """The same over the seeds: the largest radius, and all images together."""

    spectral_radius: float
    images: int
    settled: int
    steps: float
    others: Mapping[str, int]


def stability_rows(results: Results) -> Iterator[StabilityRow]:
    """Every arm and seed, in the order of the file; none, where the study does not ask for it."""
    for one in results.analyses("stability"):
        files = results.store.read(one.cell.key)
        if FAILED in files:
            yield StabilityRow(one.arm, one.seed, math.nan, 0, 0, math.nan, {}, failure(files))
            continue
        found = json.loads(files[STABILITY])
        counts = Counter(found["outcomes"])
        settled = counts.pop("settled", 0)
        radius = math.nan if found["spectral_radius"] is None else found["spectral_radius"]
        yield StabilityRow(
            one.arm,
            one.seed,
            radius,
            len(found["outcomes"]),
            settled,
            _median([steps for steps in found["steps"] if steps is not None]),
            dict(sorted(counts.items())),
            found["unknown"],
        )


def arm_stability(results: Results) -> dict[str, ArmStability]:
    """What `stability_rows` say of each arm."""
    by_arm: dict[str, list[StabilityRow]] = {}
    for row in stability_rows(results):
        by_arm.setdefault(row.arm, []).append(row)
    return {
        arm: ArmStability(
            max((row.spectral_radius for row in rows), key=lambda one: (math.isnan(one), one)),
            sum(row.images for row in rows),
            sum(row.settled for row in rows),
            _median([row.steps for row in rows if not math.isnan(row.steps)]),
            dict(sum((Counter(row.others) for row in rows), Counter())),
        )
        for arm, rows in by_arm.items()
    }


def stability_csv(results: Results) -> str:
    """``stability.csv``: see `StabilityRow`."""
    values = ({**vars(row), "others": others_text(row.others)} for row in stability_rows(results))
    rows = [list(one.values()) for one in values]
    return to_csv(rows, [one.name for one in fields(StabilityRow)])


def others_text(others: Mapping[str, int], between: str = " ") -> str:
    """``cycle 10 moving 2``."""
    return between.join(f"{name} {count}" for name, count in others.items())


def _median(numbers: Sequence[float]) -> float:
    return float(statistics.median(numbers)) if numbers else math.nan
