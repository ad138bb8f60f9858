"""What part of the machine's speed a step reaches.

The multiply-adds that a step with its output makes are counted. What the
machine can do is measured in the same run, in turn with the steps, by a product of large matrices.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from networks import images, pair
from table import Group, Measure, Record

import pcgraph as pcg
from pcgraph.analysis.cost import OperationCounter

SIDE = 2048


def roofline(name: str, batch: int, compiled: bool = False) -> Measure:
    def measure(steps: int, repeats: int) -> Record:
        network, _ = pair(name)
        scheduler = pcg.Scheduler(network)
        given = images(batch)
        state = scheduler.start(given)
        counter = OperationCounter()
        with counter:
            scheduler.readout(scheduler.step(state))
        work = counter.operations / 2
        if compiled:
            scheduler.compile()
        one, other = torch.randn(2, SIDE, SIDE).unbind()

        def run() -> None:
            scheduler.readout(scheduler.step(state))

        run()
        speeds = [(work / seconds(run), SIDE**3 / seconds(lambda: one @ other)) for _ in range(2 * repeats)]
        step, product = (statistics.median(values) for values in zip(*speeds, strict=True))
        return {
            "case": f"{name}, batch {batch}{', compiled' if compiled else ''}",
            "work": work / 1e9,
            "speed": step / 1e9,
            "product": product / 1e9,
            "ratio": statistics.median(a / b for a, b in speeds),
        }

    return measure


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


CASES: dict[str, Measure] = {
    "roofline-efficientnet_b0-1": roofline("efficientnet_b0", 1),
    "roofline-efficientnet_b0-8": roofline("efficientnet_b0", 8),
    "roofline-resnet50-8": roofline("resnet50", 8),
    "roofline-vgg16-1": roofline("vgg16", 1),
}
GROUP = Group(
    f"Roofline: billions of multiply-adds (a second), beside a product of two {SIDE} x {SIDE} matrices",
    {
        "work": ("a step", ".3g"),
        "speed": ("reached", ".3g"),
        "product": ("matrix product", ".3g"),
        "ratio": ("ratio", ".2f"),
    },
    CASES,
)
