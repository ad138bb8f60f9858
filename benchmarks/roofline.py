"""What part of the machine's speed a step reaches.

The multiply-adds that a step with its output makes are counted, and the bytes that its operations read and
write. What the machine can do is measured in the same run, in turn with the steps: by a product of large
matrices, and by copying a tensor that no cache holds. An operation takes at least the longer
of its two times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from hook_style import images
from networks import pair
from table import Group, Measure, Record
from torch import Tensor
from torch.utils._pytree import tree_leaves

import pcgraph as pcg
from pcgraph.analysis.cost import OperationCounter

SIDE = 2048
COPIED = 2**28
"""Bytes of the tensor that is copied."""


class Work(OperationCounter):
    """Multiply-adds, and bytes read and written, of each operation that is not a view."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[tuple[float, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.operations
        result = super().__torch_dispatch__(function, types, args, kwargs)
        if not function.is_view:
            tensors = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, Tensor)]
            self.each.append(((self.operations - before) / 2, sum(one.nbytes for one in tensors)))
        return result

    def least_seconds(self, speed: float, bandwidth: float) -> float:
        """What the operations take at the least, at so many multiply-adds and bytes a second."""
        return sum(max(work / speed, size / bandwidth) for work, size in self.each)


def roofline(name: str, batch: int, compiled: bool = False) -> Measure:
    def measure(steps: int, repeats: int) -> Record:
        network, _ = pair(name)
        scheduler = pcg.Scheduler(network)
        given = images(batch)
        state = scheduler.start(given)
        with Work() as counter:
            scheduler.readout(scheduler.step(state))
        work = counter.operations / 2
        if compiled:
            scheduler.compile()
        one, other = torch.randn(2, SIDE, SIDE).unbind()
        source, target = torch.ones(2, COPIED // 4).unbind()

        def run() -> None:
            scheduler.readout(scheduler.step(state))

        run()
        rounds = [
            (seconds(run), seconds(lambda: one @ other), seconds(lambda: target.copy_(source)))
            for _ in range(2 * repeats)
        ]
        step, product, copy = (statistics.median(values) for values in zip(*rounds, strict=True))
        return {
            "case": f"{name}, batch {batch}{', compiled' if compiled else ''}",
            "work": work / 1e9,
            "speed": work / step / 1e9,
            "product": SIDE**3 / product / 1e9,
            "ratio": statistics.median(work / a / (SIDE**3 / b) for a, b, _ in rounds),
            "bytes": sum(size for _, size in counter.each) / 1e9,
            "bandwidth": 2 * COPIED / copy / 1e9,
            "allowed": statistics.median(
                counter.least_seconds(SIDE**3 / b, 2 * COPIED / c) / a for a, b, c in rounds
            ),
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
        "bytes": ("GB a step", ".3g"),
        "bandwidth": ("copy, GB/s", ".3g"),
        "allowed": ("of what both allow", ".2f"),
    },
    CASES,
)
