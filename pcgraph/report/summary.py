"""What many trajectories have in common, and names for classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pcgraph.report.trajectory import Numbers, Trajectory


def held(series: Numbers, steps: int) -> Numbers:
    """A series (..., made + 1) up to ``steps``: a run that stopped early keeps its last value."""
    missing = steps + 1 - series.shape[-1]
    return np.concatenate([series, *[series[..., -1:]] * missing], axis=-1)


def mean_energy(trajectories: Sequence[Trajectory]) -> Numbers:
    """Energy of each term averaged over the images: (terms, steps + 1)."""
    steps = max(one.steps for one in trajectories)
    mean: Numbers = np.mean([held(one.energy, steps) for one in trajectories], axis=0)
    return mean


def first_class(trajectories: Sequence[Trajectory]) -> tuple[Numbers, Numbers]:
    """How the answers of step 0 fare: their mean probability, and the share that still is the best class.

    Both have shape (steps + 1,).
    """
    steps = max(one.steps for one in trajectories)
    probability, kept = [], []
    for one in trajectories:
        series = held(one.probability, steps)
        first = int(series[:, 0].argmax())
        probability.append(series[first])
        kept.append(series.argmax(axis=0) == first)
    return np.mean(probability, axis=0), np.mean(kept, axis=0)


def class_labels(names: Sequence[str] | None, count: int) -> list[str]:
    """A label for each of ``count`` classes: its name, with its number where two have the same name."""
    if names is None or len(names) != count:
        return [f"class {index}" for index in range(count)]
    often = Counter(names)
    return [name if often[name] == 1 else f"{name} ({index})" for index, name in enumerate(names)]
