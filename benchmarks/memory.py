"""Peak memory of a run and of a gradient through one, each way in a process of its own.

What is reported is the most memory that the process had resident while it ran, less what it had when network
and images were there; and all of it, with libraries and weights. The baseline's process has not imported
pcgraph. The allocator gives freed memory back at once, so that nothing counts that is not in use.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from dynamics import through_steps
from hook_style import images
from networks import keep_baseline, network_and_parts
from peaks import MIB, peaks
from table import Group, Measure, Record, check_agreement
from torch import Tensor

import pcgraph as pcg

HONEST = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(MIB), "MALLOC_TRIM_THRESHOLD_": str(MIB)}
STEPS = {"pcgraph": 20, "compiled": 20, "fast": 20, "direct": 3}
"""Of what is not differentiable: the default call does then what pays off, and direct steps are alike."""
WAYS = (*STEPS, "differentiable", "checkpointed")


def one(way: str, name: str, batch: int, steps: int, result: Path) -> None:
    """One way, in this process."""
    given = images(batch)
    scheduler = pcg.Scheduler(network_and_parts(name)[0], direct=way == "direct")
    work: Callable[[], Tensor]
    if way == "fast":
        scheduler = scheduler.network.optimize(given).scheduler
    if way == "compiled":
        scheduler.compile()
    if way in STEPS:
        work = partial(last_output, scheduler, given, steps)
    else:
        work = through_steps(scheduler, given.requires_grad_(), steps, way == "checkpointed")
    found, above, whole = peaks(work)
    torch.save(found, result)
    print(json.dumps({"above": above, "whole": whole}))


def last_output(scheduler: pcg.Scheduler, given: Tensor, steps: int) -> Tensor:
    """Of a run."""
    return scheduler.run(given, steps=steps).output[-1]


def apart(script: str, *words: object) -> tuple[Tensor, dict[str, float]]:
    """A script in a process of its own: what it found, and its peaks in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.pt"
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(script)), str(result), *map(str, words)],
            env={**os.environ, **HONEST},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return torch.load(result, weights_only=True), said


def memory(name: str, batch: int, way: str) -> Measure:
    """One way against the baseline."""

    def measure(steps: int, repeats: int) -> Record:
        steps = STEPS.get(way, steps)
        title = f"{name}, batch {batch}, {steps} steps" + ("" if way == "pcgraph" else f", {way}")
        with tempfile.TemporaryDirectory() as folder:
            parts = keep_baseline(name, Path(folder) / "parts.pt")
            of = () if way in STEPS else ("--differentiable",)
            expected, before = apart("hooks_alone.py", parts, batch, steps, *of)
        if way in ("compiled", "fast"):  # by another process
            apart("memory.py", way, name, batch, steps)
        got, after = apart("memory.py", way, name, batch, steps)
        difference = check_agreement(title, expected, got)
        return {
            "case": title,
            "baseline": before["above"],
            "pcgraph": after["above"],
            "ratio": after["above"] / before["above"],
            "whole_baseline": before["whole"],
            "whole": after["whole"],
            "whole_ratio": after["whole"] / before["whole"],
            "difference": difference,
        }

    return measure


CASES: dict[str, Measure] = {
    "memory-efficientnet_b0-1": memory("efficientnet_b0", 1, "pcgraph"),
    "memory-efficientnet_b0-8": memory("efficientnet_b0", 8, "pcgraph"),
    "memory-efficientnet_b0-8-compiled": memory("efficientnet_b0", 8, "compiled"),
    "memory-vgg16-1": memory("vgg16", 1, "pcgraph"),
    "memory-vgg16-4": memory("vgg16", 4, "pcgraph"),
    "memory-vgg16-1-fast": memory("vgg16", 1, "fast"),
    "memory-vgg16-1-direct": memory("vgg16", 1, "direct"),
    "memory-vgg16-4-direct": memory("vgg16", 4, "direct"),
    "memory-efficientnet_b0-4-differentiable": memory("efficientnet_b0", 4, "differentiable"),
    "memory-efficientnet_b0-4-checkpointed": memory("efficientnet_b0", 4, "checkpointed"),
}
GROUP = Group(
    "Peak memory in MiB, above the start and of the whole process, against the hook-style baseline",
    {
        "baseline": ("baseline, above", ".0f"),
        "pcgraph": ("pcgraph, above", ".0f"),
        "ratio": ("ratio", ".2f"),
        "whole_baseline": ("baseline, whole", ".0f"),
        "whole": ("pcgraph, whole", ".0f"),
        "whole_ratio": ("ratio of the whole", ".2f"),
        "difference": ("difference", ".0e"),
    },
    CASES,
)


def main() -> None:
    """One way; what `apart` starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="where to write what was found")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("name")
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int)
    given = parser.parse_args()
    one(given.way, given.name, given.batch, given.steps, given.result)


if __name__ == "__main__":
    main()
