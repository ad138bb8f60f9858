"""The other side of against.py: turns of a JAX package in its own process, an epoch a line of standard input.

Only numpy is needed here. Import it before jax: XLA counts the cores that it may use when it is loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CORES = {int(core) for core in sys.argv[2].split(",")}
os.sched_setaffinity(0, CORES)

Layers = Sequence[tuple[Any, Any]]  # matrix (outputs x inputs) and bias, from the input up


class Turns:
    """The file that against.py wrote, and the turns that it gives.

    Attributes:
        settings: Sizes, steps and rates.
        layers: The weights that pcgraph starts from.
        double: Whether all is in float64.
        batches: Images and labels, in their order.
    """

    def __init__(self) -> None:
        self.path = Path(sys.argv[1])
        given = np.load(self.path)
        self.settings: dict[str, Any] = json.loads(str(given["settings"]))
        levels = range(1, len(self.settings["layers"]) + 1)
        self.layers = [(given[f"weight{level}"], given[f"bias{level}"]) for level in levels]
        self.double = bool(given["images"].dtype == np.float64)
        parts = len(given["images"]) // self.settings["batch"]
        self.batches = list(
            zip(np.split(given["images"], parts), np.split(given["labels"], parts), strict=True)
        )
        self.began = (0.0, 0.0)

    def begin(self, **about: str) -> None:
        """Say what runs here, and wait for the first turn."""
        self._answer(about)

    def end(self, energy: float, layers: Layers) -> None:
        """Tell how an epoch went, and wait until the other side has had its turn. The weights are at rest."""
        seconds, cpu = (now - then for now, then in zip(_clocks(), self.began, strict=True))
        arrays = {f"weight{level}": np.asarray(weight) for level, (weight, _) in enumerate(layers, 1)}
        arrays |= {f"bias{level}": np.asarray(bias) for level, (_, bias) in enumerate(layers, 1)}
        np.savez(self.path.with_name("after.npz"), **arrays)
        self._answer({"seconds": seconds, "cpu": cpu, "energy": energy})

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), flush=True)
        if not sys.stdin.readline():
            sys.exit()
        self.began = _clocks()


def _clocks() -> tuple[float, float]:
    """The time, and the processor time of this process."""
    return time.perf_counter(), time.process_time()
