"""Peak memory of a run and of a gradient through one, each way in a process of its own.

What is reported is the most memory that the process had resident while it ran, less what it had when network
and images were there; and all of it, with libraries and weights. The allocator gives freed memory back at
once, so that nothing counts that is not in use.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from dynamics import hook_gradient, through_steps
from networks import images, pair
from table import Group, Measure, Record, check_agreement
from torch import Tensor

import pcgraph as pcg

MIB = 2**20
HONEST = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(MIB), "MALLOC_TRIM_THRESHOLD_": str(MIB)}
WAYS = ("hooks", "pcgraph", "compiled", "hooks differentiable", "differentiable", "checkpointed")
RUNS = ("pcgraph", "compiled")
STEPS = 20
"""Of a run that is not differentiable: so many that the default call does what pays off."""


def resident() -> float:
    """MiB that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def peaks(work: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """What the work gives, MiB at its peak above those before, and all of them."""
    gc.collect()
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    result = work()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    return result, peak - before, peak


def one(way: str, name: str, batch: int, steps: int, result: Path) -> None:
    """One way, in this process."""
    network, hooks = pair(name)
    given = images(batch)
    work: Callable[[], Tensor]
    if way == "hooks":
        del network
        work = partial(hooks.run, given, steps)
    elif way == "hooks differentiable":
        del network
        work = partial(hook_gradient, hooks, given.requires_grad_(), steps)
    else:
        del hooks
        scheduler = pcg.Scheduler(network)
        work = partial(last_output, scheduler.compile() if way == "compiled" else scheduler, given, steps)
        if way not in RUNS:
            work = through_steps(scheduler, given.requires_grad_(), steps, way == "checkpointed")
    found, above, whole = peaks(work)
    torch.save(found, result)
    print(json.dumps({"above": above, "whole": whole}))


def last_output(scheduler: pcg.Scheduler, given: Tensor, steps: int) -> Tensor:
    """Of a run."""
    return scheduler.run(given, steps=steps).output[-1]


def apart(way: str, name: str, batch: int, steps: int) -> tuple[Tensor, dict[str, float]]:
    """One way, in a process of its own: what it found, and its peaks in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.pt"
        words = [way, name, str(batch), str(steps), str(result)]
        done = subprocess.run(
            [sys.executable, __file__, *words],
            env={**os.environ, **HONEST},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return torch.load(result, weights_only=True), said


def memory(name: str, batch: int, way: str, baseline: str) -> Measure:
    """One way against another."""

    def measure(steps: int, repeats: int) -> Record:
        steps = STEPS if way in RUNS else steps
        title = f"{name}, batch {batch}, {steps} steps" + ("" if way == "pcgraph" else f", {way}")
        expected, before = apart(baseline, name, batch, steps)
        if way == "compiled":  # by another process
            apart(way, name, batch, steps)
        got, after = apart(way, name, batch, steps)
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
    "memory-efficientnet_b0-1": memory("efficientnet_b0", 1, "pcgraph", "hooks"),
    "memory-efficientnet_b0-8": memory("efficientnet_b0", 8, "pcgraph", "hooks"),
    "memory-efficientnet_b0-8-compiled": memory("efficientnet_b0", 8, "compiled", "hooks"),
    "memory-vgg16-1": memory("vgg16", 1, "pcgraph", "hooks"),
    "memory-vgg16-4": memory("vgg16", 4, "pcgraph", "hooks"),
    "memory-efficientnet_b0-4-differentiable": memory(
        "efficientnet_b0", 4, "differentiable", "hooks differentiable"
    ),
    "memory-efficientnet_b0-4-checkpointed": memory(
        "efficientnet_b0", 4, "checkpointed", "hooks differentiable"
    ),
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
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("name")
    parser.add_argument("batch", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("result", type=Path, help="where to write what was found")
    given = parser.parse_args()
    one(given.way, given.name, given.batch, given.steps, given.result)


if __name__ == "__main__":
    main()
