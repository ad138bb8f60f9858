"""How time grows with steps, images, edges and delays: sizes in turn in one process, and the fitted exponent.

An exponent of 1 is growth in proportion, 0 none at all. Edges are judged by the time that each takes: a
graph with ten times the edges may take ten times the time, and nothing more.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from hook_style import images
from networks import pair
from table import Group, Measure, Record

import pcgraph as pcg


def chain(edges: int, units: int = 64, delay: int = 1) -> pcg.Scheduler:
    """A chain of linear layers with tanh, each predicting the next."""
    names = [f"n{number}" for number in range(edges + 1)]
    spec = {
        "name": "chain",
        "nodes": {name: {"shape": [units]} for name in names},
        "edges": [
            {"source": a, "target": b, "predictor": ["Linear", "Tanh"], "delay": delay}
            for a, b in itertools.pairwise(names)
        ],
        "dynamics": {"rule": "energy", "rate": 0.1},
    }
    return pcg.Scheduler(pcg.build(pcg.parse_spec(spec)).requires_grad_(False))


def fitted(case: str, runs: Mapping[int, Callable[[], object]], repeats: int) -> Record:
    """Time every size in turn; the exponent is the slope of the least squares line through the logarithms."""
    for run in runs.values():
        run()
    times: dict[int, list[float]] = {size: [] for size in runs}
    for _ in range(repeats):
        for size, run in runs.items():
            begin = time.perf_counter()
            run()
            times[size].append(time.perf_counter() - begin)
    medians = {size: float(np.median(found)) for size, found in times.items()}
    slope = np.polyfit(np.log(list(medians)), np.log(list(medians.values())), 1)[0]
    first, last = min(medians), max(medians)
    return {
        "case": case,
        "sizes": ", ".join(map(str, medians)),
        "seconds": ", ".join(f"{value:.3g}" for value in medians.values()),
        "exponent": float(slope),
        "each": medians[last] / last / (medians[first] / first),
    }


def in_steps(steps: int, repeats: int) -> Record:
    scheduler, given = chain(10), torch.randn(16, 64)
    sizes = (10, 20, 50, 100)
    runs = {size: lambda size=size: scheduler.run(given, steps=size) for size in sizes}
    return fitted("steps: chain of 10 edges", runs, repeats)


def in_batch(steps: int, repeats: int) -> Record:
    scheduler = pcg.Scheduler(pair("efficientnet_b0")[0])
    given = {size: images(size) for size in (1, 2, 4, 8)}
    runs = {size: lambda x=x: scheduler.run(x, steps=2) for size, x in given.items()}
    return fitted("images: efficientnet_b0, 2 steps", runs, repeats)


def in_edges(steps: int, repeats: int) -> Record:
    given = torch.randn(16, 64)
    schedulers = {size: chain(size) for size in (10, 30, 100)}
    runs = {size: lambda s=s: s.run(given, steps=10) for size, s in schedulers.items()}
    return fitted("edges: chains of small layers, 10 steps", runs, repeats)


def in_delay(steps: int, repeats: int) -> Record:
    given = torch.randn(16, 64)
    schedulers = {size: chain(10, delay=size) for size in (1, 2, 4, 8)}
    runs = {size: lambda s=s: s.run(given, steps=30) for size, s in schedulers.items()}
    return fitted("delay: chain of 10 edges, 30 steps", runs, repeats)


CASES: dict[str, Measure] = {
    "scaling-steps": in_steps,
    "scaling-batch": in_batch,
    "scaling-edges": in_edges,
    "scaling-delay": in_delay,
}
GROUP = Group(
    "Growth: the exponent is 1 where time grows in proportion, 0 where it does not grow",
    {
        "sizes": ("sizes", ""),
        "seconds": ("seconds", ""),
        "exponent": ("exponent", ".2f"),
        "each": ("time per size, largest over smallest", ".2f"),
    },
    CASES,
)
